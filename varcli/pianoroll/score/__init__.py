"""Rolls, MIDI, beats and scales."""
