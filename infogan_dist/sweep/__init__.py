"""The `sweep` command: one `train` process per combination of config values, and evaluate's table of all runs."""
