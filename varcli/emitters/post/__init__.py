"""What follows localisation: filters, linking, drift, merging, and figures of quality; all on an EmitterTable."""
