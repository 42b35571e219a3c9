"""Simulated camera stacks and training frames."""
