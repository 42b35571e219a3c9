"""Rolls, heat maps and pages as pictures."""
