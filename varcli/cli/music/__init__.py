"""Commands of the music family."""
