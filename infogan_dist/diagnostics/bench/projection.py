"""The step on another number of processes, by the calls, bytes and seconds measured on those at hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from infogan_dist.diagnostics.bench.scaling import Link, StepCost
from infogan_dist.distributed.cluster import Cluster
from infogan_dist.distributed.reductions import EXCHANGE

LARGE = 2**24  # bytes of the all-reduce that measures a bandwidth
SMALL = 8


@dataclass(frozen=True)
class Target:
    """The number of processes to project to, and their link where it is not the one at hand."""

    processes: int
    link: Link | None


def project(figures: dict[str, Any], cluster: Cluster, target: Target) -> dict[str, Any]:
    """The step on `target.processes`, by the link given or measured; and the model's error for the processes at hand."""
    calls, sizes, processes = figures["reduce_calls"], figures["reduced_bytes"], figures["processes"]
    cost = StepCost(
        compute=figures["seconds_without_reductions"],
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
        "images_per_process": figures["global_batch"] // processes,
        "link": {"bytes_per_second": link.bandwidth, "latency_seconds": link.latency},
        "seconds": cost.seconds(target.processes, link),
        "efficiency": cost.efficiency(target.processes, link),
    }
    if here is not None:
        projection["error_here"] = cost.seconds(processes, here) / figures["seconds"] - 1
    return {"projection": projection}
