"""Times whole steps on all ranks together, in alternation with what they are compared with."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from infogan_dist.distributed.cluster import Cluster

REPEATS = 5
SECONDS = 2.0  # a repeat lasts at least about so long
WARM_UP = FEWEST = 2  # steps

Step = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Seconds of a step in each repeat."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        return spread(self.seconds)


def spread(values: Sequence[float]) -> float:
    """Largest minus smallest, as a share of the median."""
    return (max(values) - min(values)) / statistics.median(values)


def seconds_per_step(step: Step, count: int, cluster: Cluster) -> float:
    """Seconds of each of `count` steps, the device's work included. Every rank calls it; each gets its own clock's."""
    cluster.any(False)  # a barrier
    cluster.synchronize()
    start = time.perf_counter()
    for _ in range(count):
        step()
    cluster.synchronize()
    return (time.perf_counter() - start) / count


def steps_per_repeat(contenders: Mapping[str, Step], cluster: Cluster) -> dict[str, int]:
    """How many steps of each make a repeat, the same on every rank; warms them up."""
    warm = {name: seconds_per_step(step, WARM_UP, cluster) for name, step in contenders.items()}
    return cluster.on_main(lambda: {name: max(FEWEST, math.ceil(SECONDS / each)) for name, each in warm.items()})


def alternate(contenders: Mapping[str, Step], cluster: Cluster) -> dict[str, Timing]:
    """Each contender timed REPEATS times in turn, so that machine noise hits all alike."""
    counts = steps_per_repeat(contenders, cluster)
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(REPEATS):
        for name, step in contenders.items():
            taken[name].append(seconds_per_step(step, counts[name], cluster))
    return cluster.on_main(lambda: {name: Timing(tuple(each)) for name, each in taken.items()})
