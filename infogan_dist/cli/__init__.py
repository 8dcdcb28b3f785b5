"""The command line: one file a command, its arguments and one call. The call imports what is heavy: `--help` answers at once."""

COMMANDS = (
    *("init", "train", "sweep", "sample", "traverse", "encode", "edit", "curves", "report", "explore", "evaluate"),
    *("select", "refine", "convert", "config", "doctor", "bench"),
)
"""The commands in the order of `--help`; each is the module of this name."""
