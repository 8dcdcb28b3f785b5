"""The config: its sections, and how files and overrides are read. Nothing here imports torch."""
