"""Maps, rendered images and pages."""
