"""Times steps on all ranks at once, alternating between those that are compared."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from infogan_dist.distributed.cluster import Cluster

REPEATS = 5
SECONDS = 2.0  # approximate least duration of a repeat
WARM_UP = FEWEST = 2  # steps

Step = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Seconds per step in each repeat."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        return spread(self.seconds)


def spread(values: Sequence[float]) -> float:
    """The largest value minus the smallest, divided by the median."""
    return (max(values) - min(values)) / statistics.median(values)


def seconds_per_step(step: Step, count: int, cluster: Cluster) -> float:
    """Seconds per step over `count` steps, by this rank's clock, until the device has finished. Every rank calls it."""
    cluster.any(False)  # a barrier
    cluster.synchronize()
    start = time.perf_counter()
    for _ in range(count):
        step()
    cluster.synchronize()
    return (time.perf_counter() - start) / count


def steps_per_repeat(steps: Mapping[str, Step], cluster: Cluster) -> dict[str, int]:
    """The number of calls per repeat of each of `steps`, the same on every rank. Warms them up."""
    warm = {name: seconds_per_step(step, WARM_UP, cluster) for name, step in steps.items()}
    return cluster.on_main(lambda: {name: max(FEWEST, math.ceil(SECONDS / each)) for name, each in warm.items()})


def alternate(steps: Mapping[str, Step], cluster: Cluster) -> dict[str, Timing]:
    """Time each of `steps` REPEATS times in turn, so that machine noise affects all alike."""
    counts = steps_per_repeat(steps, cluster)
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(REPEATS):
        for name, step in steps.items():
            taken[name].append(seconds_per_step(step, counts[name], cluster))
    return cluster.on_main(lambda: {name: Timing(tuple(each)) for name, each in taken.items()})
