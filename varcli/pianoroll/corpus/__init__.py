"""Corpora: files of music read once, in parallel, into pieces on a grid."""
