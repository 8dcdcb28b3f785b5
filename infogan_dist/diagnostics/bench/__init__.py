"""`bench`: the real training step on this machine: its rate, where its time goes, how far it is from what the machine can do."""

from infogan_dist.diagnostics.bench.against import Opponent
from infogan_dist.diagnostics.bench.command import Request, bench
from infogan_dist.diagnostics.bench.projection import Target
from infogan_dist.diagnostics.bench.until import Goal

__all__ = ["Goal", "Opponent", "Request", "Target", "bench"]
