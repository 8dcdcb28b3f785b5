"""L_I and the code error of several runs, as points and as SVG: L_I is measured on images of G, the code error on real images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from infogan_dist.export.report.runs import Run
from infogan_dist.export.report.scores import CEILING, Scores
from infogan_dist.export.report.table import has_failed

FEWEST = 3  # runs
FULL = 0.99  # share of the ceiling from which L_I counts as at its maximum
WIDTH, LEFT, GAP = 340, 44, 20  # of the picture, its left margin, and between the plot and the names: about pixels
TOP, BOTTOM, LEAST = 22, 38, 190  # margins and the least height of the y axis
LINE = 12  # from one name to the next
LETTER, MOST_LETTERS = 5.5, 32  # width of a letter, and letters of a name in the picture
PERCENTAGES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)


@dataclass(frozen=True)
class Point:
    """A run: L_I of the code that is compared with the labels, and its ceiling H(c), in nats; the code error, a fraction."""

    name: str
    nats: float
    ceiling: float
    error: float
    failed: bool

    @property
    def share(self) -> float:
        """L_I as a fraction of H(c); negative where Q is worse than the prior."""
        return self.nats / self.ceiling

    @property
    def text(self) -> str:
        return (
            f"{self.name}{' (failed)' if self.failed else ''}: L_I {self.nats:.3f} of {self.ceiling:.3f} nats "
            f"({percent(self.share, 1)}), code error {percent(self.error)}"
        )


@dataclass(frozen=True)
class Bound:
    """The points by decreasing code error, and the runs that have none."""

    points: tuple[Point, ...]
    without: tuple[str, ...]
    """Names of the runs whose code error, L_I or H(c) is not known."""

    @property
    def svg(self) -> str:
        return picture(self.points)

    @property
    def summary(self) -> str:
        full = [point.error for point in self.points if point.share >= FULL]
        if not full:
            return f"No run has an L_I of at least {percent(FULL, 0)} of its maximum, H(c)."
        return (
            f"In {len(full)} of {len(self.points)} runs L_I is at least {percent(FULL, 0)} of its maximum, H(c), and the code "
            f"error is {' to '.join(dict.fromkeys(map(percent, (min(full), max(full)))))}: the bound can be at its maximum "
            "while images are in the wrong class."
        )


def bound(runs: Sequence[Run], scores: Sequence[Scores]) -> Bound | None:
    """None for fewer than `FEWEST` points."""
    found = [_point(run, of_run) for run, of_run in zip(runs, scores, strict=True)]
    points = sorted((point for point in found if point is not None), key=lambda point: -point.error)
    without = tuple(run.name for run, point in zip(runs, found, strict=True) if point is None)
    return Bound(tuple(points), without) if len(points) >= FEWEST else None


def _point(run: Run, scores: Scores) -> Point | None:
    code = _compared_code(scores)
    nats, error = scores.metrics.get(f"mutual_information/{code}"), scores.metrics.get("code_error")
    measured = CEILING in scores.facts or (run.config is not None and run.config.latents.prior == "uniform")
    ceiling = scores.ceilings.get(code) if measured else None  # H(c) of a learned prior is in no config
    if nats is None or error is None or not ceiling:
        return None
    return Point(run.name, nats, ceiling, error, has_failed(run, scores))


def _compared_code(scores: Scores) -> str:
    """The code that evaluate matched to the labels; without a matching, as in metrics.jsonl, the only categorical code, or ""."""
    matching = scores.facts.get("matching")
    if isinstance(matching, dict):
        return str(matching.get("code"))
    codes = [key.partition("/")[2] for key in scores.metrics if key.startswith("mutual_information/categorical_")]
    return codes[0] if len(codes) == 1 else ""


def picture(points: Sequence[Point], style: str = "") -> str:
    """Points of decreasing code error: L_I as a share of H(c) to the right, the code error upwards on a logarithmic scale, and names
    at the right, in the order of the points. A cross is a failed run. An error of 0 is at the bottom, a negative L_I at the left.
    With a `style` it is a file."""
    height = TOP + max(LEAST, LINE * len(points)) + BOTTOM
    floor = height - BOTTOM
    names = [_short(point.name) for point in points]
    right = WIDTH - GAP - LETTER * max(map(len, names))  # of the plot
    least = min((100 * point.error for point in points if point.error > 0), default=1.0)
    lowest = max((tick for tick in PERCENTAGES if tick <= min(1, least)), default=PERCENTAGES[0])
    ticks = [tick for tick in PERCENTAGES if tick >= lowest]

    def x(share: float) -> float:
        return LEFT + (right - LEFT) * max(0.0, share)

    def y(error: float) -> float:
        return floor - (floor - TOP) * math.log(max(1.0, 100 * error / lowest)) / math.log(100 / lowest)

    title = f"Code error over L_I as a share of H(c), {len(points)} runs"
    file = f'xmlns="http://www.w3.org/2000/svg" width="{1.5 * WIDTH:g}" height="{1.5 * height:g}" ' if style else ""
    parts = [f'<svg {file}class="plot" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{title}">']
    if style:
        parts.append(f"<style>{escape(style, quote=False)}</style>")
    parts.append('<text class="tick" x="2" y="10">Code error</text>')
    if any(point.failed for point in points):
        parts.append(f'<text class="tick" x="{right + GAP:g}" y="10">&#215; failed</text>')
    parts.append(f'<text class="tick x" x="{x(0.5):g}" y="{floor + 30}">L_I, share of H(c)</text>')
    for tick in ticks:
        parts.append(f'<path class="grid" d="M{LEFT} {y(tick / 100):.1f}H{right:g}"/>')
        parts.append(f'<text class="tick y" x="{LEFT - 6}" y="{y(tick / 100) + 3.5:.1f}">{tick:g} %</text>')
    for share in (0, 0.5, 1):
        parts.append(f'<path class="{"reference" if share == 1 else "grid"}" d="M{x(share):g} {TOP}V{floor}"/>')
        parts.append(f'<text class="tick x" x="{x(share):g}" y="{floor + 14}">{percent(share, 0)}</text>')
    heights = spread([y(point.error) for point in points], TOP, floor)
    for point, name, name_y in zip(points, names, heights, strict=True):
        cx, cy = x(point.share), y(point.error)
        mark = f'<circle class="dot c0" cx="{cx:.1f}" cy="{cy:.1f}" r="2.5"/>'
        if point.failed:
            mark = f'<path class="line c6" d="M{cx - 3:.1f} {cy - 3:.1f}l6 6m0-6l-6 6"/>'
        leader = f'<path class="leader" d="M{cx:.1f} {cy:.1f}L{right + GAP - 3:g} {name_y:.1f}"/>'
        label = f'<text class="name" x="{right + GAP:g}" y="{name_y + 3.5:.1f}">{escape(name)}</text>'
        parts.append(f"<g><title>{escape(point.text)}</title>{leader}{mark}{label}</g>")
    return "".join([*parts, "</svg>"])


def spread(wanted: Sequence[float], low: float, high: float) -> list[float]:
    """The increasing heights from `low` to `high`, `LINE` or more apart, that are nearest to the increasing `wanted` in the squared sum."""
    from scipy.optimize import isotonic_regression

    rows = LINE * np.arange(len(wanted))
    free = isotonic_regression(np.asarray(wanted) - rows).x
    heights: list[float] = (np.clip(free, low, high - rows[-1]) + rows).tolist()
    return heights


def percent(fraction: float, digits: int = 2) -> str:
    return f"{100 * fraction:.{digits}f} %"


def _short(name: str) -> str:
    """At most `MOST_LETTERS` of a name, with its beginning and its end, which often has the seed."""
    half = MOST_LETTERS // 2
    return name if len(name) <= MOST_LETTERS else f"{name[: half - 1]}…{name[-half:]}"
