"""Images drawn from a generator: batches, grids, picture files, curves."""
