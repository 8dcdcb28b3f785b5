"""The config: its sections, and how files and overrides become one. Nothing here imports torch."""
