"""Scaling on paper: how long a step would take on more processes, from what one measures on few. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Link:
    """What joins the processes: bandwidth in bytes/s, latency of one message in seconds."""

    bandwidth: float
    latency: float

    def all_reduce_seconds(self, calls: float, size: float, processes: int) -> float:
        """So many ring all-reduces of `size` bytes together: each sends 2(N-1) messages of an N-th of its bytes, one after
        another (Patarasuk & Yuan 2009)."""
        return 2 * (processes - 1) * (calls * self.latency + size / processes / self.bandwidth)

    @classmethod
    def from_all_reduces(cls, small: float, large: float, large_size: float, processes: int) -> Link:
        """The link on which an all-reduce of nearly nothing takes `small` seconds, and one of `large_size` bytes `large`."""
        messages = 2 * (processes - 1)
        return cls(large_size / processes * messages / max(large - small, 1e-9), small / messages)


@dataclass(frozen=True)
class StepCost:
    """One rank's step: seconds of computation; calls and bytes of the gradient reductions; calls of batch norm's exchanges and
    the bytes that each process adds to them, a row of its own."""

    compute: float
    gradient_calls: float
    gradient_bytes: float
    exchange_calls: float
    exchange_bytes: float

    def seconds(self, processes: int, link: Link) -> float:
        """The step on so many processes, each with as many images as `compute` was measured with.

        Reductions and computation one after the other: DDP overlaps some of them, so this is the careful side.
        """
        gradients = link.all_reduce_seconds(self.gradient_calls, self.gradient_bytes, processes)
        exchanges = link.all_reduce_seconds(self.exchange_calls, self.exchange_bytes * processes, processes)
        return self.compute + gradients + exchanges

    def efficiency(self, processes: int, link: Link) -> float:
        """The share of `processes` times one process's rate that is left."""
        return self.compute / self.seconds(processes, link)
