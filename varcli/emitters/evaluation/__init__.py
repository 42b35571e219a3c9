"""Found emitters against the truth."""
