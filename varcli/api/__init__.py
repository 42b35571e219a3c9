"""What `import varcli` offers, beside its types: each function is what a command of `var` calls."""
