"""Whole runs of music and what they leave: samples, likelihoods of pieces, comparisons with real music."""
