"""Checkpoints, the run folder, and the decision where to resume. Only rank zero uses this folder."""
