"""A model outside this package: one file a format, and the page."""
