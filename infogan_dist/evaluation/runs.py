"""Summarises several runs of one recipe: their failures and code errors."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from infogan_dist.evaluation.intervals import binomial_interval, mean_interval
from infogan_dist.evaluation.metric_values import Metrics
from infogan_dist.files import read_regular
from infogan_dist.registry.data_sets import DATA_SETS

MARKER_LIMIT = 2**16  # bytes read of a marker file
FAILED_ABOVE = 0.08  # code error; a run that merges two classes has about 10 % or more


def is_run(path: Path) -> bool:
    """Whether a run was started in `path`."""
    return (path / "config.yaml").exists() or (path / "FAILED").exists()


def failure(path: Path, metrics: Metrics) -> str | None:
    """Why a run counts as failed: its FAILED marker, or a code error above `FAILED_ABOVE`, except on the user's own images, whose classes
    may be of any difficulty. None where it does not."""
    marker = path / "FAILED"
    if marker.exists():
        said = ""
        with suppress(OSError):
            said = " ".join(read_regular(marker, MARKER_LIMIT).decode(errors="replace").split())
        return f"training failed: {said}" if said else "training failed"
    if metrics.get("code_error", 0) > FAILED_ABOVE and not _of_own_images(metrics):
        return f"code error over {100 * FAILED_ABOVE:g} %"
    return None


def _of_own_images(metrics: Metrics) -> bool:
    name = metrics.get("data")
    return name in DATA_SETS and bool(DATA_SETS[str(name)].scan)


def summary(rows: Sequence[Metrics]) -> Metrics:
    """`runs`, `failed`, and the `statistics_of` each error that a row has: `code_error` and `code_error_averaged`."""
    counts: Metrics = {"runs": len(rows), "failed": sum("failed" in row for row in rows)}
    found = {key: statistics_of(rows, key) for key in ("code_error", "code_error_averaged")}
    return counts | {key: values for key, values in found.items() if values}


def statistics_of(rows: Sequence[Metrics], key: str) -> Metrics:
    """`median`, `best`, `worst`, and of two rows or more `mean`, `standard_deviation` and `mean_interval` of an error, fractions;
    `test_interval`, the binomial interval of the mean where all rows have as many images.

    A run without the error ranks below all others. A statistic that would depend on its value is absent.
    """
    errors = sorted(row.get(key, math.inf) for row in rows)
    ranked = {"median": statistics.median(errors), "best": errors[0], "worst": errors[-1]}
    found: Metrics = {name: value for name, value in ranked.items() if math.isfinite(value)}
    if len(errors) < 2 or not math.isfinite(errors[-1]):
        return found
    mean, images = statistics.fmean(errors), {row["images"] for row in rows if "images" in row}
    found |= {
        "mean": mean,
        "standard_deviation": statistics.stdev(errors),
        "mean_interval": list(mean_interval(errors)),
    }
    return found | ({"test_interval": list(binomial_interval(mean, *images))} if len(images) == 1 else {})
