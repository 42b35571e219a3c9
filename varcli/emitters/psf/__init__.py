"""The point spread function: what it is, and its measurement on a stack."""
