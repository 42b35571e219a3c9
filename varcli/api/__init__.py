"""What `import varcli` offers, one module per family: each function is what a command of `var` calls."""
