"""From a stack to a table: survey, chunks of frames, resuming, provenance."""
