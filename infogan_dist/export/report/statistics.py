"""Confidence intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

LEVEL = 0.95
_Z = statistics.NormalDist().inv_cdf((1 + LEVEL) / 2)


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Student's t interval of the mean of independent values; None for fewer than two."""
    if len(values) < 2:
        return None
    from scipy.special import stdtrit

    half = float(stdtrit(len(values) - 1, (1 + LEVEL) / 2)) * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    return mean - half, mean + half


def proportion_interval(share: float, count: int) -> tuple[float, float]:
    """Wilson's interval of a probability, from the share of successes among `count` independent trials (Wilson 1927)."""
    squared = _Z**2 / count
    centre = (share + squared / 2) / (1 + squared)
    half = _Z / (1 + squared) * math.sqrt(share * (1 - share) / count + squared / (4 * count))
    return max(0.0, centre - half), min(1.0, centre + half)
