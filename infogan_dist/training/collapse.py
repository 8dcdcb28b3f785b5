"""Signs of collapse in the newest logged rows: a function of metrics.jsonl alone, so that a resumed run sees what it would have seen.

The report's own run ended in the first of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from infogan_dist.config.model import ObjectiveConfig
from infogan_dist.config.running import CollapseConfig
from infogan_dist.latents import LatentSpec

Row = Mapping[str, Any]  # of kind train, as in metrics.jsonl


class Sign(NamedTuple):
    """One sign of collapse; `message` says what is so, since when, and what helps."""

    name: str
    message: str


def signs(rows: Sequence[Row], spec: LatentSpec, objective: ObjectiveConfig, collapse: CollapseConfig) -> list[Sign]:
    """What each of the newest `collapse.rows` rows shows; nothing where there are fewer, or too few images seen."""
    newest = rows[-collapse.rows :]
    if len(newest) < collapse.rows or newest[0]["images_seen"] < collapse.after_images:
        return []
    found = [
        *_saturation(newest, collapse),
        *_ignored_codes(newest, spec, objective, collapse),
        *_no_variety(newest, collapse),
        *_unused_classes(newest, spec, collapse),
    ]
    since = f"in the {collapse.rows} newest logged rows" if collapse.rows > 1 else "in the newest logged row"
    return [Sign(name, f"{message.format(since=since)}") for name, message in found]


def new_signs(
    rows: Sequence[Row], spec: LatentSpec, objective: ObjectiveConfig, collapse: CollapseConfig
) -> list[Sign]:
    """Those of `signs` that the rows before the last did not show yet: each is told once for as long as it lasts."""
    known = {sign.name for sign in signs(rows[:-1], spec, objective, collapse)}
    return [sign for sign in signs(rows, spec, objective, collapse) if sign.name not in known]


def _saturation(rows: Sequence[Row], collapse: CollapseConfig) -> Iterator[tuple[str, str]]:
    """D is right so often that its gradient tells G nothing (Arjovsky & Bottou 2017, theorem 2.4)."""
    right, gap = _all(rows, "health/D_accuracy"), _all(rows, "health/score_gap")
    if (right and min(right) >= collapse.D_accuracy) or (gap and min(gap) >= collapse.score_gap):
        yield (
            "D saturated",
            f"D tells {_share(right)} of reals and fakes apart {{since}}, so that G learns nothing from it; lower optimizer.D.lr, "
            "set objective.r1_gamma (say 1) or networks.norm_D = spectral",
        )


def _ignored_codes(
    rows: Sequence[Row], spec: LatentSpec, objective: ObjectiveConfig, collapse: CollapseConfig
) -> Iterator[tuple[str, str]]:
    """L_I near zero: Q reads nothing of the code from G's images. A continuous code has no ceiling and is measured against 1 nat."""
    ceilings = spec.ceilings()
    for name in spec.code_names:
        kind = "categorical" if name in ceilings else "continuous"
        weight: float = getattr(objective, f"lambda_{kind}")
        bounds = _all(rows, f"mi/{name}")
        if weight and bounds and max(bounds) < collapse.information * ceilings.get(name, 1.0):
            ceiling = f" of {ceilings[name]:.2f}" if name in ceilings else ""
            yield (
                f"{name} ignored",
                f"G ignores {name}: L_I is at most {max(bounds):.2f} nats{ceiling} {{since}}; raise "
                f"objective.lambda_{kind} = {weight:g} or optimizer.Q.lr",
            )


def _no_variety(rows: Sequence[Row], collapse: CollapseConfig) -> Iterator[tuple[str, str]]:
    spread = _all(rows, "health/diversity")
    if spread and max(spread) < collapse.diversity:
        yield (
            "no variety",
            f"G draws each class in one way: its images differ by {max(spread):.4f} at most {{since}}; lower the weight of the codes "
            "(objective.lambda_categorical, objective.lambda_continuous) or set objective.r1_gamma (say 1)",
        )


def _unused_classes(rows: Sequence[Row], spec: LatentSpec, collapse: CollapseConfig) -> Iterator[tuple[str, str]]:
    for name, width in zip(spec.categorical_names, spec.categorical, strict=True):
        shares = [_all(rows, f"usage/{name}/{number}") for number in range(width)]
        unused = [number for number, share in enumerate(shares) if share and max(share) < collapse.usage]
        if unused:
            yield (
                f"{name} unused",
                f"no real image is of class {', '.join(map(str, unused))} of {name} {{since}}; set latents.balanced = true and "
                "objective.lambda_clustering (say 1), or choose another seed",
            )


def _all(rows: Sequence[Row], key: str) -> list[float]:
    """The numbers of every row, or none where a row lacks it or has none: a skipped step is no sign."""
    numbers = [math.nan if row.get(key) is None else float(row[key]) for row in rows]
    return numbers if all(map(math.isfinite, numbers)) else []


def _share(numbers: Sequence[float]) -> str:
    return f"{min(numbers):.0%}" if numbers else "nearly all"
