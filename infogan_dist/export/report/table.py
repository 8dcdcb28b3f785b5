"""The table of scores: a row per metric, a column per group of seeds and per run."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from infogan_dist.export.report.comparison import Group
from infogan_dist.export.report.metrics import Metric, metrics_of
from infogan_dist.export.report.runs import Run
from infogan_dist.export.report.scores import Scores
from infogan_dist.export.report.statistics import mean_interval, proportion_interval


@dataclass(frozen=True)
class Cell:
    """A value as in the JSON, its text, and notes below it; no value if the metric is absent."""

    value: float | None = None
    text: str = ""
    notes: tuple[str, ...] = ()


Row = tuple[Metric, tuple[Cell, ...]]


@dataclass(frozen=True)
class Column:
    """A run, or the mean of a group."""

    title: str
    detail: str
    failed: bool = False
    is_mean: bool = False


@dataclass(frozen=True)
class Table:
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    more: tuple[Row, ...]
    """Metrics of a code and a factor or attribute."""
    of_images: bool
    """Whether intervals are of single runs, over images."""


def score_table(groups: Sequence[Group], scores: dict[Run, Scores]) -> Table:
    """The means of groups of several seeds first, then every run."""
    several = [group for group in groups if len(group.runs) > 1]
    runs = [run for group in groups for run in group.runs]
    columns = [_mean_column(group, scores) for group in several]
    columns += [_run_column(run, scores[run]) for run in runs]
    rows = []
    for metric in metrics_of([scores[run] for run in runs]):
        cells = [_mean(metric, [scores[run] for run in group.runs]) for group in several]
        cells += [_single(metric, scores[run], interval=not several) for run in runs]
        rows.append((metric, tuple(cells)))
    main = tuple(row for row in rows if row[0].key.count("/") < 2)
    more = tuple(row for row in rows if row[0].key.count("/") >= 2)
    return Table(tuple(columns), main, more, of_images=not several and bool(rows))


def _mean_column(group: Group, scores: dict[Run, Scores]) -> Column:
    failed = sum(has_failed(run, scores[run]) for run in group.runs)
    detail = f"{len(group.runs)} runs" + (f", {failed} failed" if failed else "")
    return Column(f"Mean, {group.title}" if group.title else "Mean", detail, is_mean=True)


def _run_column(run: Run, scores: Scores) -> Column:
    seed = f"seed {run.config.seed}" if run.config is not None else ""
    return Column(run.name, seed, has_failed(run, scores))


def has_failed(run: Run, scores: Scores) -> bool:
    """Whether training failed, or evaluate counts the run as failed."""
    return run.state == "failed" or scores.failed is not None


def _mean(metric: Metric, every: Sequence[Scores]) -> Cell:
    """The mean of the runs that have the metric, with Student's interval, and their number if some lack it."""
    having = [scores for scores in every if metric.key in scores.metrics]
    if not having:
        return Cell()
    values = [scores.metrics[metric.key] for scores in having]
    mean, interval = statistics.fmean(values), mean_interval(values)
    bounds = {metric.bound(scores) for scores in having}
    notes = [
        f"{metric.text(interval[0])} to {metric.text(interval[1])}" if interval is not None else "",
        bounds.pop() if len(bounds) == 1 else "",
        f"{len(having)} of {len(every)} runs" if len(having) < len(every) else "",
    ]
    return Cell(mean, metric.text(mean), tuple(filter(None, notes)))


def _single(metric: Metric, scores: Scores, interval: bool) -> Cell:
    value = scores.metrics.get(metric.key)
    if value is None:
        return Cell()
    trials = scores.trials(metric.key) if interval else None
    notes = [metric.bound(scores)]
    if trials is not None:
        low, high = proportion_interval(value, trials)
        notes.insert(0, f"{metric.text(low)} to {metric.text(high)}")
    return Cell(value, metric.text(value), tuple(filter(None, notes)))
