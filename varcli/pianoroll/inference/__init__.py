"""The network compiled for sampling: one token after another, many samples at a time."""
