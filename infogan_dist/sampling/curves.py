"""Curves of runs, from their metrics: losses, scores, information, clustering and code error over the images seen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from infogan_dist.config.schema import Config
from infogan_dist.files import atomic_write
from infogan_dist.latents import LatentSpec

ENDINGS = (".svg", ".pdf", ".png")
WIDTH, PANEL, GAP = 9.5, 1.8, 0.45  # inches: the picture's width, a panel's height, the space between panels
LEFT, RIGHT, TOP, BOTTOM = 0.75, 2.65, 1.05, 0.55  # inches of margin; the legends stand at the right
DPI = 110
NAMES_IN_A_ROW, LINE = 3, 0.2  # names of runs, and inches from one row of them to the next
MOST_NAMED = 8  # lines of a panel that its legend names
SMOOTHED_FROM = 20  # rows: fewer are drawn as they are
WINDOWS = 25  # the running mean covers this part of a run
COLOURS = ("#1f77b4", "#d95f02", "#2a9d5c", "#9467bd", "#8c564b", "#e377c2", "#17a2b8", "#bcbd22")
STYLES = ("-", "--", ":", "-.")
IN_NATS = {"standard", "relativistic", "none"}  # adversarial losses
GREY = "#666666"
Row = Mapping[str, Any]


@dataclass(frozen=True)
class RunCurves:
    """One run: its name, the rows of its metrics.jsonl, and its config where that is known."""

    name: str
    rows: Sequence[Row]
    config: Config | None = None


@dataclass(frozen=True)
class Panel:
    """One panel: metrics with names for readers, and horizontal lines with their meaning."""

    title: str
    unit: str
    lines: Mapping[str, str]
    references: Mapping[str, float]
    kind: str = "train"
    percent: bool = False


def write_curves(rows: Sequence[Row], path: Path, config: Config | None = None) -> None:
    """The curves of one run into the file that its ending asks for."""
    write_runs([RunCurves(path.absolute().parent.name, rows, config)], path)


def write_runs(runs: Sequence[RunCurves], path: Path) -> None:
    """The curves of one run, or of several over each other, as .svg, .pdf or .png: images seen below, steps above."""
    panels = list(panels_of(runs))
    top = TOP + LINE * ((len(runs) - 1) // NAMES_IN_A_ROW)
    height = top + len(panels) * (PANEL + GAP) - GAP + BOTTOM
    figure = Figure(figsize=(WIDTH, height))  # fixed margins: matplotlib's own layouts take longer than all the rest
    every_axes: list[Axes] = list(figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0])
    figure.subplots_adjust(LEFT / WIDTH, BOTTOM / height, 1 - RIGHT / WIDTH, 1 - top / height, hspace=GAP / PANEL)
    for axes, panel in zip(every_axes, panels, strict=True):
        _draw_panel(axes, panel, runs)
    _mark_onsets(every_axes, runs)
    _label_images_and_steps(every_axes, runs)
    _name_runs(figure, runs)
    kind = path.suffix.lower().removeprefix(".")
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)  # the same bytes for the same rows
    with atomic_write(path) as partial, mpl.rc_context({"svg.hashsalt": "infogan_dist"}):
        figure.savefig(partial, format=kind, dpi=DPI, metadata=undated)


def _name_runs(figure: Figure, runs: Sequence[RunCurves]) -> None:
    """Above the panels, each run in its colour with its newest code error."""
    names = []
    for run in runs:
        errors = [row["code_error"] for row in run.rows if row.get("code_error") is not None]
        names.append(f"{run.name}, code error {_percent(errors[-1])}" if errors else run.name)
    if len(runs) == 1:
        figure.suptitle(names[0], x=0.01, y=1 - 0.08 / figure.get_figheight(), ha="left", va="top", fontsize=11)
        return
    handles = [Line2D([], [], color=COLOURS[n % len(COLOURS)], label=name) for n, name in enumerate(names)]
    figure.legend(handles=handles, loc="upper left", ncols=NAMES_IN_A_ROW, fontsize=9, frameon=False)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.3g} %"


def panels_of(runs: Sequence[RunCurves]) -> Iterator[Panel]:
    """The panels that these runs have something for; the first three always."""
    keys = {key for run in runs for row in run.rows for key in row}
    specs = [LatentSpec.from_config(run.config.latents) for run in runs if run.config]
    adversarial = {run.config.objective.adversarial for run in runs if run.config}
    losses = {"loss/D": "discriminator", "loss/G": "generator", "loss/info": "information (weighted)"}
    yield Panel("Losses", "nats" if adversarial <= IN_NATS else "", losses, _chance(adversarial))
    scores = {
        "score/real": "real images",
        "score/fake_before_G": "generated, before G's update",
        "score/fake_after_G": "generated, after G's update",
    }
    yield Panel("Discriminator's score", "mean D(x)", scores, {"chance": 0.5})
    codes = {key: key.removeprefix("mi/") for key in sorted(keys) if key.startswith("mi/")}
    entropy = "health/prior_entropy/"
    codes |= {key: f"ceiling of {key.removeprefix(entropy)}" for key in sorted(keys) if key.startswith(entropy)}
    uniform = [spec for spec in specs if not spec.priors]
    ceilings = {f"ceiling, ln {width}": math.log(width) for spec in uniform for width in spec.categorical}
    yield Panel("Mutual information lower bound", "L_I (nats)", codes, ceilings)
    if "loss/clustering" in keys:
        yield Panel("Clustering of real images", "nats", {"loss/clustering": "clustering"}, _best_clustering(runs))
    if "code_error" in keys:
        widths = {spec.categorical[0] for spec in specs if spec.categorical}
        chances = {f"chance of {width} classes": 1 - 1 / width for width in sorted(widths)}
        yield Panel("Code error", "share of images", {"code_error": "code error"}, chances, "evaluate", percent=True)


def smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The running mean over a part of the run, of the numbers that are finite; NaN where the number itself is not."""
    half = max(len(values) // WINDOWS, 2) // 2
    means = np.full(len(values), math.nan)
    for place in np.flatnonzero(np.isfinite(values)).tolist():
        reach = min(half, place, len(values) - 1 - place)  # symmetric, also at the ends
        part = values[place - reach : place + reach + 1]
        means[place] = np.mean(part[np.isfinite(part)])
    return means


def _chance(adversarial: set[str]) -> dict[str, float]:
    """The losses of a discriminator that cannot tell reals from fakes, where all runs have one adversarial loss that we know."""
    if adversarial == {"standard"}:
        return {"D at chance, 2 ln 2": 2 * math.log(2), "G at chance, ln 2": math.log(2)}
    return {"at chance, ln 2": math.log(2)} if adversarial == {"relativistic"} else {}


def _best_clustering(runs: Sequence[RunCurves]) -> dict[str, float]:
    """The least clustering loss: all classes used alike, and every pair in one class."""
    least = {}
    for run in runs:
        if run.config is not None:
            widths = LatentSpec.from_config(run.config.latents).categorical
            entropy = sum(math.log(width) for width in widths)
            least["least possible"] = (1 - 2 * run.config.objective.clustering_entropy_weight) * entropy
    return least


def _draw_panel(axes: Axes, panel: Panel, runs: Sequence[RunCurves]) -> None:
    several = len(runs) > 1
    for number, (key, name) in enumerate(panel.lines.items()):
        for which, run in enumerate(runs):
            colour = COLOURS[(which if several else number) % len(COLOURS)]
            style = STYLES[number % len(STYLES)] if several else "-"
            _draw_line(axes, run.rows, key, panel.kind, colour, style)
        unnamed = len(panel.lines) - MOST_NAMED
        if number < MOST_NAMED:
            more = f", and {unnamed} more" if number == MOST_NAMED - 1 and unnamed > 0 else ""
            shown = GREY if several else COLOURS[number % len(COLOURS)]
            axes.plot([], [], color=shown, linestyle=style, label=name + more)
    for number, (name, value) in enumerate(panel.references.items()):
        axes.axhline(value, color=GREY, linewidth=0.9, linestyle=(0, (1, 1 + number)), label=name)
    axes.set_title(panel.title, loc="left", fontsize=10)
    axes.set_ylabel(panel.unit)
    axes.grid(alpha=0.25)
    if panel.percent:
        _as_percentages(axes)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8.5, frameon=False)


def _as_percentages(axes: Axes) -> None:
    """A logarithmic axis up to 100 %: both 1 % and chance are to be seen."""
    drawn = [value for line in axes.lines for value in np.asarray(line.get_ydata(), dtype=float) if value > 0]
    axes.set_yscale("log", nonpositive="clip")
    axes.set_ylim(min([0.01, *(0.6 * value for value in drawn)]), 1.2)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _percent(value)))


def _draw_line(axes: Axes, rows: Sequence[Row], key: str, kind: str, colour: str, style: str) -> None:
    """The values as they are, faint where there are many, and their running mean before them."""
    found = [row for row in rows if row["kind"] == kind and key in row]
    images = np.array([row.get("images_seen", row["step"]) for row in found], dtype=float)
    values = np.array([math.nan if row[key] is None else row[key] for row in found], dtype=float)
    if len(found) < SMOOTHED_FROM:
        axes.plot(images, values, color=colour, linestyle=style, linewidth=1.2, marker="o", markersize=3)
        return
    axes.plot(images, values, color=colour, linestyle=style, linewidth=0.8, alpha=0.25)
    axes.plot(images, smoothed(values), color=colour, linestyle=style, linewidth=1.5)


def _mark_onsets(every_axes: Sequence[Axes], runs: Sequence[RunCurves]) -> None:
    """A line in every panel where clustering starts, is in full, or annealing begins; its name stands in the first."""
    last = max((row.get("images_seen", row["step"]) for run in runs for row in run.rows), default=0)
    onsets = {onset for run in runs if run.config for onset in _onsets(run.config) if onset[0] < last}
    for images, name in sorted(onsets):
        for axes in every_axes:
            axes.axvline(images, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
        every_axes[0].annotate(
            name, (images, 0.97), xycoords=("data", "axes fraction"), xytext=(-3, 0), textcoords="offset points",
            rotation=90, ha="right", va="top", fontsize=7.5, color=GREY,
        )  # fmt: skip


def _onsets(config: Config) -> Iterator[tuple[float, str]]:
    """In images seen: the config has fractions of the run."""
    objective, schedule = config.objective, config.schedule
    images = config.run_images
    if objective.lambda_clustering and not objective.clustering_after:
        yield images * objective.clustering_from, "clustering starts"
        yield images * objective.clustering_in_full, "clustering in full"
    if config.latents.prior == "learned":
        yield images * config.latents.prior_from, "prior moves"
    if schedule.kind != "constant":
        yield images * schedule.anneal_from, "annealing begins"


def _label_images_and_steps(every_axes: Sequence[Axes], runs: Sequence[RunCurves]) -> None:
    """Images seen below the last panel; steps above the first, where all runs have as many images in a step."""
    every_axes[-1].set_xlabel("images seen")
    every_axes[-1].xaxis.set_major_formatter(FuncFormatter(lambda images, _: f"{images:,.0f}"))
    ratios = {run.rows[-1].get("images_seen", 0) / max(run.rows[-1]["step"], 1) for run in runs if run.rows}
    if len(ratios) == 1 and (ratio := ratios.pop()) > 0:
        steps = every_axes[0].secondary_xaxis("top", functions=(lambda x: x / ratio, lambda x: x * ratio))
        steps.set_xlabel("step", fontsize=9)
        steps.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
