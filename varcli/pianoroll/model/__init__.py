"""The hierarchical model: tree, canvas, levels, and the walk that prices a canvas."""
