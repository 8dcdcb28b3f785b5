"""Summarises several runs of one recipe: their failures and code errors."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from infogan_dist.evaluation.metric_values import Metrics
from infogan_dist.files import read_regular

MARKER_LIMIT = 2**16  # bytes read of a marker file
FAILED_ABOVE = 0.08  # code error; a run that merges two classes has about 10 % or more


def is_run(path: Path) -> bool:
    """Whether a run was started in `path`."""
    return (path / "config.yaml").exists() or (path / "FAILED").exists()


def failure(path: Path, metrics: Metrics) -> str | None:
    """Why a run counts as failed: its FAILED marker, or a code error above `FAILED_ABOVE`. None where it does not."""
    marker = path / "FAILED"
    if marker.exists():
        said = ""
        with suppress(OSError):
            said = " ".join(read_regular(marker, MARKER_LIMIT).decode(errors="replace").split())
        return f"training failed: {said}" if said else "training failed"
    if metrics.get("code_error", 0) > FAILED_ABOVE:
        return f"code error over {100 * FAILED_ABOVE:g} %"
    return None


def summary(rows: Sequence[Metrics]) -> Metrics:
    """`runs`, `failed` and `code_error` (`median`, `best`, `worst`, fractions) over all rows. A run without a code error ranks
    below all others; a statistic that would be its value is absent."""
    errors = sorted(row.get("code_error", math.inf) for row in rows)
    metrics = {"median": statistics.median(errors), "best": errors[0], "worst": errors[-1]}
    finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
    counts: Metrics = {"runs": len(rows), "failed": sum("failed" in row for row in rows)}
    return counts | ({"code_error": finite} if finite else {})
