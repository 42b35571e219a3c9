"""Batches, given masks and losses of training."""
