"""Likelihoods, and generated music against real music."""
