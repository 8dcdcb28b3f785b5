"""`bench`: the training step measured on this machine: its rate, its phases, and its distance from what the machine can do."""

from infogan_dist.diagnostics.bench.against import Baseline
from infogan_dist.diagnostics.bench.command import BenchOptions, bench
from infogan_dist.diagnostics.bench.projection import Link, Target

__all__ = ["Baseline", "BenchOptions", "Link", "Target", "bench"]
