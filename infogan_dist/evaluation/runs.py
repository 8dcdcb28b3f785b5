"""Several runs of one recipe side by side: who failed, and what the others reached."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from infogan_dist.evaluation.metric_values import Metrics
from infogan_dist.files import read_regular

MARKER_LIMIT = 2**16  # bytes of a marker that are read
FAILED_ABOVE = 0.08  # code error: a run that merged two classes has at least about 10 %


def is_run(path: Path) -> bool:
    """Whether a run was started in `path`, whatever became of it."""
    return (path / "config.yaml").exists() or (path / "FAILED").exists()


def failure(path: Path, metrics: Metrics) -> str | None:
    """Why a run counts as failed: its code error, or the marker of a process that failed there. None where it does not."""
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
    """`runs`, `failed` and `code_error` (`median`, `best`, `worst`, fractions) over all rows, none dropped: a run without a
    figure is worse than any. What depends on such a run is absent."""
    errors = sorted(row.get("code_error", math.inf) for row in rows)
    metrics = {"median": statistics.median(errors), "best": errors[0], "worst": errors[-1]}
    finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
    counts: Metrics = {"runs": len(rows), "failed": sum("failed" in row for row in rows)}
    return counts | ({"code_error": finite} if finite else {})
