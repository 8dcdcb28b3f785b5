"""The scores of runs: from the JSON of `evaluate --json`, else from the evaluations during training."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infogan_dist.errors import UserError, printable
from infogan_dist.evaluation.json_file import NAME
from infogan_dist.export.report.runs import Row, Run
from infogan_dist.files import read_regular
from infogan_dist.latents import LatentSpec

JSON_LIMIT = 2**26  # bytes: a row has about 3,000
PROVENANCE = ("kind", "seed", "step", "images_seen", "images", "fresh_images", "usage", "matching", "versions")
CEILING = "mutual_information_ceiling"


@dataclass(frozen=True)
class Scores:
    """The scores of one run; `metrics` by their path in the JSON, `mutual_information/categorical_0`."""

    metrics: dict[str, float] = field(default_factory=dict)
    ceilings: dict[str, float] = field(default_factory=dict)
    """The largest mutual information in nats by code."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """The row of the JSON."""
    source: str = ""
    """The name of the file that they were read from."""

    @property
    def failed(self) -> str | None:
        """The reason for which evaluate counts the run as failed."""
        if "failed" not in self.facts:
            return None
        run = _run_path(self.facts)
        return printable(str(self.facts["failed"]).replace(str(run), run.name))  # without folders of this machine

    def trials(self, key: str) -> int | None:
        """The number of images, for a metric that is a share of images; None for other metrics."""
        images = dict.fromkeys(("code_error", "code_error_fitted_on_test", "code_error_averaged"), "images")
        images |= dict.fromkeys(("traversal_consistency", "non_digit_rate"), "fresh_images")
        count = self.facts.get(images.get(key, ""))
        return count if isinstance(count, int) and count > 0 else None


@dataclass(frozen=True)
class Controls:
    """The code error of predictions without an InfoGAN, by name, on the test images of `data`."""

    data: str
    code_errors: dict[str, float]


def read_scores(runs: Sequence[Run], files: Sequence[Path]) -> tuple[list[Scores], list[Controls]]:
    """The scores of each run, and the controls on each data set.

    They are read from `files`; else from evaluation.json in the run folder or its parent, where a sweep writes it; else from the
    last evaluation during training. The last of several rows of a run is used. Raises UserError for a file that evaluate did not
    write, and for a file in `files` without a row of these runs.
    """
    found = {file: _report(file) for file in files or _beside(runs)}
    rows: dict[Path, tuple[Row, str]] = {}
    for file, report in found.items():
        matched = _matched(report["runs"], runs)
        if files and not matched:
            raise UserError(
                f"--scores {file} has no row of these runs; write it with `infogan-dist evaluate RUN --json {file}`"
            )
        rows |= {path: (row, file.name) for path, row in matched.items()}
    controls: dict[str, dict[str, float]] = {}
    for row in (row for report in found.values() for row in report["controls"]):
        controls.setdefault(row["data"], {})[row["control"]] = row["code_error"]
    scores = [_scores(run, *rows.get(run.path, (None, ""))) for run in runs]
    return scores, [Controls(data, code_errors) for data, code_errors in controls.items()]


def _beside(runs: Sequence[Run]) -> list[Path]:
    folders = [folder for run in runs for folder in (run.path.resolve().parent, run.path)]
    return [folder / NAME for folder in dict.fromkeys(folders) if (folder / NAME).is_file()]


def _report(file: Path) -> dict[str, list[Row]]:
    """`runs` and `controls`: the rows of a file. Raises UserError."""
    try:
        report = json.loads(read_regular(file, JSON_LIMIT).decode("utf-8"))
        rows = {"runs": report.get("runs", [report]), "controls": report.get("controls", [])}
        if not all(isinstance(row.get("checkpoint"), str) for row in rows["runs"]):
            raise ValueError("a row has no checkpoint")
        for row in rows["controls"]:
            float(row["code_error"]), str(row["control"]), str(row["data"])
    except OSError as error:
        raise UserError(
            f"{file} cannot be read: {error.strerror}; write it with `infogan-dist evaluate RUN --json`"
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{file} is not what `infogan-dist evaluate --json` writes ({error}); remove it or write it again"
        ) from error
    return rows


def _matched(rows: Sequence[Row], runs: Sequence[Run]) -> dict[Path, Row]:
    """The row of each run by its path: the row of its folder, else the only row of a missing folder of its name, for a moved run."""
    paths = [_run_path(row) for row in rows]
    names = ["" if path.exists() else path.name for path in paths]
    matched: dict[Path, Row] = {}
    for run in runs:
        same = [row for path, row in zip(paths, rows, strict=True) if path.resolve() == run.path.resolve()]
        if (
            not same
            and names.count(run.path.name) == 1
            and sum(run.path.name == other.path.name for other in runs) == 1
        ):
            same = [rows[names.index(run.path.name)]]
        if same:
            matched[run.path] = same[-1]
    return matched


def _run_path(row: Mapping[str, Any]) -> Path:
    """The run folder of a row, whose checkpoint is a run folder or in one."""
    path = Path(row["checkpoint"])
    return path.parent.parent if path.parent.name == "checkpoints" else path


def _scores(run: Run, row: Row | None, source: str) -> Scores:
    if row is None and run.evaluations:
        row, source = run.evaluations[-1], "metrics.jsonl"
    if row is None:
        return Scores()
    ceilings = LatentSpec.from_config(run.config.latents).ceilings() if run.config is not None else {}
    metrics = dict(_numbers({key: value for key, value in row.items() if key not in (*PROVENANCE, CEILING)}))
    return Scores(metrics, {**ceilings, **dict(_numbers(row.get(CEILING, {})))}, row, source)


def _numbers(values: Any, prefix: str = "") -> Iterator[tuple[str, float]]:
    """The finite numbers below nested mappings, by their path."""
    for key, value in values.items() if isinstance(values, dict) else ():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{key}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            yield f"{prefix}{key}", value
