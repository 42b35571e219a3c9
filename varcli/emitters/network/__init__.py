"""The next-scale predictor, from a frame to candidates."""
