"""`bench`: measures the training step on this machine: rate, phases, share of the hardware limit, memory and reductions."""

from infogan_dist.diagnostics.bench.against import Baseline
from infogan_dist.diagnostics.bench.command import BenchOptions, bench
from infogan_dist.diagnostics.bench.projection import Link, Target

__all__ = ["Baseline", "BenchOptions", "Link", "Target", "bench"]
