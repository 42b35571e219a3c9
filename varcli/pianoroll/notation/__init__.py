"""Notation: rolls as scores, in bars, staves, voices, note values and names of pitches."""
