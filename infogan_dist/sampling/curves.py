"""curves.png: losses, scores and information over the steps of a run, from its metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib.figure import Figure

from infogan_dist.files import atomic_write

PANELS = (("loss/", "loss (nats)"), ("score/", "score, mean D(.)"), ("mi/", "L_I (nats)"))


def write_curves(rows: list[dict[str, Any]], path: Path) -> None:
    """One panel each for the losses, the scores D(x) and D(G(z)) before and after G's update, and L_I by code."""
    training = [row for row in rows if row["kind"] == "train"]
    steps = [row["step"] for row in training]
    figure = Figure(figsize=(8, 9), layout="constrained")
    for axes, (prefix, label) in zip(figure.subplots(len(PANELS), sharex=True), PANELS, strict=True):
        for key in sorted({key for row in training for key in row if key.startswith(prefix)}):
            values = [float("nan") if row.get(key) is None else row[key] for row in training]
            axes.plot(
                steps, values, label=key.removeprefix(prefix), linewidth=1, marker="." if len(steps) < 3 else None
            )
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="upper right", fontsize=8)
    axes.set_xlabel("step")
    with atomic_write(path) as partial:
        figure.savefig(partial, format="png", dpi=110)
