"""A model outside this package, and models of other programs in ours: one file a format, and the page."""
