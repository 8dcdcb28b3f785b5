"""Curves over images seen as inline SVG, whose colours follow the page's light or dark style."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from operator import attrgetter

import numpy as np

from infogan_dist.export.report.runs import Row, Run
from infogan_dist.latents import LatentSpec
from infogan_dist.sampling.curves import SMOOTHED_FROM, RunCurves, panels_of, smoothed

WIDTH, HEIGHT = 340, 200  # of a panel, in units of its view box: about pixels
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 26  # margins
COLOURS = 8  # in report.css
DASHES = ("", "5 3", "1.5 2.5")  # for lines 0 to 7, 8 to 15 and 16 to 23, which share the colours
POINTS = 30_000  # of all lines of a report: about 350 KB
FEWEST, MOST = 20, 300  # points of a line
TICKS = 5
SPEED = "images_per_second"

Point = tuple[int, float | None]


@dataclass(frozen=True)
class Line:
    """Values over images seen; None for a value that was not finite. `style` numbers its colour and dashes."""

    label: str
    points: list[Point]
    style: int
    failed: bool = False
    """Whether a cross marks its end."""


@dataclass(frozen=True)
class Panel:
    title: str
    unit: str
    lines: tuple[Line, ...]
    references: Mapping[str, float]
    """Horizontal lines, by their meaning. One far from all values is not drawn."""
    svg: str = ""


def panels(runs: Sequence[Run]) -> list[Panel]:
    """The panels of curves.png. For one run a line is a metric; for several each metric has a panel, where a line is a run."""
    found = [panel for panel in _panels(runs) if any(len(line.points) > 1 for line in panel.lines)]
    count = max(1, sum(len(panel.lines) for panel in found))
    most = max(FEWEST, min(MOST, POINTS // (2 * count)))
    return [replace(panel, svg=svg(panel, most)) for panel in found]


def _panels(runs: Sequence[Run]) -> Iterator[Panel]:
    several = len(runs) > 1
    for each in panels_of([RunCurves(run.name, [*run.training, *run.evaluations], run.config) for run in runs]):
        unit, factor = (f"% {each.unit}", 100.0) if each.percent else (each.unit, 1.0)
        references = {name: factor * value for name, value in each.references.items()}
        rows_of = attrgetter("evaluations" if each.kind == "evaluate" else "training")
        if several:
            for key, name in each.lines.items():
                title = f"{each.title}: {name}" if len(each.lines) > 1 else each.title
                yield Panel(title, unit, _by_run(runs, key, rows_of, factor), _references(runs, key, references))
        else:
            lines = [
                Line(name, _points(rows_of(runs[0]), key, factor), style, runs[0].state == "failed")
                for style, (key, name) in enumerate(each.lines.items())
            ]
            yield Panel(each.title, unit, tuple(line for line in lines if line.points), references)
    yield Panel("Speed", "images per second", _by_run(runs, SPEED, attrgetter("timing")), {})


def _references(runs: Sequence[Run], key: str, known: Mapping[str, float]) -> Mapping[str, float]:
    """The references of a panel of one metric, from those `known` for its group."""
    if key in ("loss/D", "loss/G", "loss/info"):
        return {name: value for name, value in known.items() if name.startswith(f"{key[-1]} ")}
    if key.startswith("mi/"):
        specs = [LatentSpec.from_config(run.config.latents) for run in runs if run.config is not None]
        code = key.removeprefix("mi/")
        ceilings = {spec.ceilings()[code] for spec in specs if code in spec.ceilings() and not spec.priors}
        return {"ceiling": ceilings.pop()} if len(ceilings) == 1 else {}
    return known


def swatch(style: int) -> str:
    """A sample of a line, for a legend."""
    return f'<svg class="swatch" viewBox="0 0 24 8" aria-hidden="true"><path {_stroke(style)} d="M1 4H23"/></svg>'


def svg(panel: Panel, most: int = MOST) -> str:
    """Axes, references and lines. A line of many values has a running mean, and the values themselves faintly behind it."""
    values = [value for line in panel.lines for _, value in line.points if value is not None]
    low, high = min(values, default=0.0), max(values, default=1.0)
    references = {name: value for name, value in panel.references.items() if 2 * low - high <= value <= 2 * high - low}
    ticks = nice_ticks(min([low, *references.values()]), max([high, *references.values()]))
    last = max(1, *(images for line in panel.lines for images, _ in line.points))

    def x(images: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * images / last

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - ticks[0]) / (ticks[-1] - ticks[0])

    label = f"{panel.title} ({panel.unit}) over images seen. " + " ".join(map(_described, panel.lines))
    parts = [f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">']
    for tick in ticks:
        parts.append(f'<path class="grid" d="M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="tick y" x="{LEFT - 6}" y="{y(tick) + 3.5:.1f}">{tick:.6g}</text>')
    for tick in nice_ticks(0, last):
        if tick <= last:
            anchor = "end" if x(tick) > WIDTH - RIGHT - 12 else "x"
            parts.append(f'<text class="tick {anchor}" x="{x(tick):.1f}" y="{HEIGHT - 8}">{short(tick)}</text>')
    for line in panel.lines:
        drawn = [_path(thinned(points, most), x, y, line, kind) for kind, points in _layers(line.points)]
        parts.append(f"<g><title>{escape(line.label)}</title>{''.join(drawn)}</g>")
    for name, value in references.items():
        parts.append(f'<path class="reference" d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="tick end" x="{WIDTH - RIGHT}" y="{y(value) - 3:.1f}">{escape(name)}</text>')
    return "".join([*parts, "</svg>"])


def thinned(points: Sequence[Point], most: int) -> list[Point]:
    """At most `most` of the points in order: the smallest and the largest of each of equal stretches, so that peaks are kept."""
    if len(points) <= most:
        return list(points)
    stretches = most // 2
    kept: list[Point] = []
    for number in range(stretches):
        stretch = points[number * len(points) // stretches : (number + 1) * len(points) // stretches]
        finite = [(value, position) for position, (_, value) in enumerate(stretch) if value is not None]
        chosen = sorted({min(finite)[1], max(finite)[1]}) if finite else [0]
        kept += [stretch[position] for position in chosen]
    return kept


def nice_ticks(low: float, high: float) -> list[float]:
    """About `TICKS` multiples of 1, 2 or 5 times a power of ten, from at most `low` to at least `high`."""
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        low, high = (low - 0.5, high + 0.5) if abs(low) < 1e6 else (low * 0.5, high * 1.5)
    rough = (high - low) / (TICKS - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def short(count: float) -> str:
    """150000 as 150k, 1200000 as 1.2M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.4g}{letter}"
    return f"{count:.4g}"


def _by_run(
    runs: Sequence[Run], key: str, rows_of: Callable[[Run], list[Row]], factor: float = 1.0
) -> tuple[Line, ...]:
    lines = [
        Line(run.name, _points(rows_of(run), key, factor), style, run.state == "failed")
        for style, run in enumerate(runs)
    ]
    return tuple(line for line in lines if line.points)


def _points(rows: Sequence[Row], key: str, factor: float) -> list[Point]:
    return [(row["images_seen"], None if row[key] is None else factor * row[key]) for row in rows if key in row]


def _layers(points: list[Point]) -> list[tuple[str, list[Point]]]:
    """What is drawn of a line, by CSS class: its values, and their running mean if they are many."""
    if len(points) < SMOOTHED_FROM:
        return [("", points)]
    means = smoothed(np.array([math.nan if value is None else value for _, value in points]))
    pairs = zip(points, means.tolist(), strict=True)
    return [("raw", points), ("", [(images, None if math.isnan(mean) else mean) for (images, _), mean in pairs])]


def _described(line: Line) -> str:
    values = [value for _, value in line.points if value is not None]
    if not values:
        return f"{line.label}: never finite."
    return f"{line.label}: from {values[0]:.4g} to {values[-1]:.4g}, between {min(values):.4g} and {max(values):.4g}."


def _path(
    points: Sequence[Point], x: Callable[[float], float], y: Callable[[float], float], line: Line, kind: str
) -> str:
    """A path with a gap at each value that is not finite, a dot for a single point, and a cross at the end of a failed run."""
    stretches: list[list[str]] = [[]]
    end = None
    for images, value in points:
        if value is None:
            stretches.append([])
        else:
            end = (x(images), y(value))
            stretches[-1].append(f"{end[0]:.1f} {end[1]:.1f}")
    drawn = "".join(f"M{'L'.join(stretch)}" for stretch in stretches if len(stretch) > 1)
    parts = [f'<path {_stroke(line.style, kind)} d="{drawn}"/>'] if drawn else []
    for stretch in stretches:
        if len(stretch) == 1:
            cx, cy = stretch[0].split()
            parts.append(f'<circle class="dot c{line.style % COLOURS}" cx="{cx}" cy="{cy}" r="2.5"/>')
    if line.failed and end is not None and not kind:
        parts.append(f'<path {_stroke(line.style)} d="M{end[0] - 4:.1f} {end[1] - 4:.1f}l8 8m0-8l-8 8"/>')
    return "".join(parts)


def _stroke(style: int, kind: str = "") -> str:
    dashes = DASHES[style // COLOURS % len(DASHES)]
    classes = f"line c{style % COLOURS}" + (f" {kind}" if kind else "")
    return f'class="{classes}"' + (f' stroke-dasharray="{dashes}"' if dashes else "")
