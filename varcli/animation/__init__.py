"""Watching a generator work: record its events, keep the recording as frames.npz, draw it as an animation."""
