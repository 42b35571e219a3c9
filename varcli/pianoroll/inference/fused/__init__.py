"""Blocks of cells and their values, filled at once by compiled code."""
