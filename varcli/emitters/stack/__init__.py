"""Camera stacks, read and written page by page."""
