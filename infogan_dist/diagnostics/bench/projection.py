"""Predicts the time of a step on another number of processes from the calls, bytes and seconds measured here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from infogan_dist.distributed.cluster import Cluster
from infogan_dist.distributed.reductions import EXCHANGE

LARGE = 2**24  # bytes of the all-reduce that measures a bandwidth
SMALL = 8


@dataclass(frozen=True)
class Link:
    """The network between processes: bandwidth in bytes/s, latency of one message in seconds."""

    bandwidth: float
    latency: float

    def all_reduce_seconds(self, calls: float, size: float, processes: int) -> float:
        """Seconds of `calls` ring all-reduces of `size` bytes in total on N processes: each sends 2(N-1) messages of a 1/N of its bytes,
        one after another (Patarasuk & Yuan 2009)."""
        return 2 * (processes - 1) * (calls * self.latency + size / processes / self.bandwidth)

    @classmethod
    def from_all_reduces(cls, small: float, large: float, large_size: float, processes: int) -> Link:
        """The link on which an all-reduce of a few bytes takes `small` seconds, and one of `large_size` bytes takes `large` seconds."""
        messages = 2 * (processes - 1)
        return cls(large_size / processes * messages / max(large - small, 1e-9), small / messages)


@dataclass(frozen=True)
class StepCost:
    """One rank's step: seconds of computation; calls and bytes of the gradient reductions; calls of batch norm's exchanges, and the
    bytes that each process contributes to them."""

    compute: float
    gradient_calls: float
    gradient_bytes: float
    exchange_calls: float
    exchange_bytes: float

    def seconds(self, processes: int, link: Link) -> float:
        """Seconds of the step on `processes` processes, each with as many images as `compute` was measured with.

        It assumes that reductions and computation do not overlap. DDP overlaps some of them, so this is an upper bound.
        """
        gradients = link.all_reduce_seconds(self.gradient_calls, self.gradient_bytes, processes)
        exchanges = link.all_reduce_seconds(self.exchange_calls, self.exchange_bytes * processes, processes)
        return self.compute + gradients + exchanges

    def efficiency(self, processes: int, link: Link) -> float:
        """The predicted rate as a share of `processes` times one process's rate."""
        return self.compute / self.seconds(processes, link)


@dataclass(frozen=True)
class Target:
    """The number of processes to predict for, and their link; None for the one measured here."""

    processes: int
    link: Link | None


def project(metrics: dict[str, Any], cluster: Cluster, target: Target) -> dict[str, Any]:
    """The predicted step on `target.processes`, over the given or measured link; and the model's error for the processes here."""
    calls, sizes, processes = metrics["reduce_calls"], metrics["reduced_bytes"], metrics["processes"]
    cost = StepCost(
        compute=metrics["seconds_without_reductions"],
        gradient_calls=sum(count for what, count in calls.items() if what != EXCHANGE),
        gradient_bytes=sum(size for what, size in sizes.items() if what != EXCHANGE),
        exchange_calls=calls.get(EXCHANGE, 0),
        exchange_bytes=sizes.get(EXCHANGE, 0) / processes,
    )
    small, large = cluster.all_reduce_seconds(SMALL), cluster.all_reduce_seconds(LARGE)
    here = Link.from_all_reduces(small, large, LARGE, processes) if processes > 1 else None
    link = target.link or here
    assert link is not None, "checked before anything was measured"
    projection: dict[str, Any] = {
        "processes": target.processes,
        "images_per_process": metrics["global_batch"] // processes,
        "link": {"bytes_per_second": link.bandwidth, "latency_seconds": link.latency},
        "seconds": cost.seconds(target.processes, link),
        "efficiency": cost.efficiency(target.processes, link),
    }
    if here is not None:
        projection["error_here"] = cost.seconds(processes, here) / metrics["seconds"] - 1
    return {"projection": projection}
