"""Sampling: settings, the scheduler of a batch, and the events it yields."""
