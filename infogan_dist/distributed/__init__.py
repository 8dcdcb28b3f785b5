"""Processes, DDP and collectives: the only folder that refers to ranks. It also assigns each rank its part of a batch."""
