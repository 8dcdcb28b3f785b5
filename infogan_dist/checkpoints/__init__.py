"""What a run leaves on disk: checkpoints, the run folder, and where a command resumes. Rank zero alone calls it."""
