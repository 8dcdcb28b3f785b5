"""Collapse warnings, computed only from the newest rows of metrics.jsonl, so that a resumed run gives the same warnings.

The lab report's run, with D's loss near zero and G's near 50, would have got the first one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from infogan_dist.config.objective import ObjectiveConfig
from infogan_dist.config.running import CollapseConfig
from infogan_dist.latents import LatentSpec
from infogan_dist.losses import information_ceilings
from infogan_dist.registry.losses import ADVERSARIAL_LOSSES

QUIET_ROWS = 100
"""A warning that applied in one of this many rows before is not logged again: averages near a threshold cross it often."""

Row = Mapping[str, Any]  # of kind train, as in metrics.jsonl


class CollapseWarning(NamedTuple):
    """`message` names what was measured, over how many rows, and the remedy."""

    name: str
    message: str


def collapse_warnings(
    rows: Sequence[Row], spec: LatentSpec, objective: ObjectiveConfig, collapse: CollapseConfig
) -> list[CollapseWarning]:
    """The warnings whose condition all of the newest `collapse.rows` rows meet; none for fewer rows or before `collapse.after_images`."""
    newest = rows[-collapse.rows :]
    if len(newest) < collapse.rows or newest[0]["images_seen"] < collapse.after_images:
        return []
    spec = _with_priors_of(newest[-1], spec)
    found = [
        *(() if ADVERSARIAL_LOSSES[objective.adversarial].needs_bounded_gradient else _saturation(newest, collapse)),
        *_ignored_codes(newest, spec, objective, collapse),
        *_no_variety(newest, collapse),
        *_unused_classes(newest, spec, collapse),
        *_rare_classes(newest, spec, collapse),
    ]
    since = f"in the last {collapse.rows} logged rows" if collapse.rows > 1 else "in the last logged row"
    return [CollapseWarning(name, message.format(since=since)) for name, message in found]


def new_warnings(
    rows: Sequence[Row], spec: LatentSpec, objective: ObjectiveConfig, collapse: CollapseConfig
) -> list[CollapseWarning]:
    """The warnings that apply now and after none of the `QUIET_ROWS` rows before, so that each is logged once while it comes and goes."""
    new = collapse_warnings(rows, spec, objective, collapse)
    for end in range(len(rows) - 1, max(0, len(rows) - 1 - QUIET_ROWS), -1):
        if not new:
            break
        known = {warning.name for warning in collapse_warnings(rows[:end], spec, objective, collapse)}
        new = [each for each in new if each.name not in known]
    return new


def _saturation(rows: Sequence[Row], collapse: CollapseConfig) -> Iterator[tuple[str, str]]:
    """D is right so often that G's gradient vanishes (Arjovsky & Bottou 2017, theorem 2.4)."""
    right, gap = _all(rows, "health/D_accuracy"), _all(rows, "health/score_gap")
    if right and min(right) >= collapse.D_accuracy:
        measured = f"it classifies {min(right):.0%} of reals and fakes correctly"
    elif gap and min(gap) >= collapse.score_gap:
        measured = f"D(x) - D(G(z, c)) is at least {min(gap):.2f}"
    else:
        return
    yield (
        "D saturated",
        f"D is saturated: {measured} {{since}}, so G gets almost no gradient; lower optimizer.D.lr, set "
        "objective.r1_gamma (say 1) or networks.norm_D = spectral",
    )


def _ignored_codes(
    rows: Sequence[Row], spec: LatentSpec, objective: ObjectiveConfig, collapse: CollapseConfig
) -> Iterator[tuple[str, str]]:
    """L_I is near zero: G's images do not depend on the code. A continuous code is compared with 1 nat, because L_I has no maximum."""
    ceilings = information_ceilings(spec, objective)
    for name in spec.code_names:
        kind = "categorical" if name in spec.categorical_names else "continuous"
        weight: float = getattr(objective, f"lambda_{kind}")
        bounds = _all(rows, f"mi/{name}")
        # with a fixed variance a Q that predicts 0 always reaches the ceiling less the half variance of the code
        fixed = kind == "continuous" and name in ceilings
        least = ceilings[name] - spec.continuous_variance / 2 if fixed else 0.0
        if weight and bounds and max(bounds) < least + collapse.information * (ceilings.get(name, 1.0) - least):
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
            f"G has lost variety: within a class, pixels have a standard deviation of at most {max(spread):.4f} {{since}}; lower "
            "objective.lambda_categorical and objective.lambda_continuous, or set objective.r1_gamma (say 1)",
        )


def _unused_classes(rows: Sequence[Row], spec: LatentSpec, collapse: CollapseConfig) -> Iterator[tuple[str, str]]:
    for name, width in zip(spec.categorical_names, spec.categorical, strict=True):
        shares = [_all(rows, f"usage/{name}/{number}") for number in range(width)]
        unused = [number for number, share in enumerate(shares) if share and max(share) < collapse.usage]
        if unused:
            remedy = "latents.balanced = true and objective.lambda_clustering (say 1)"
            if spec.priors:
                remedy = "latents.prior_from later or objective.clustering_entropy_weight higher, at most 1"
            yield (
                f"{name} unused",
                f"Q assigns almost no real image to class {', '.join(map(str, unused))} of {name} {{since}}; set "
                f"{remedy}, or choose another seed",
            )


def _with_priors_of(row: Row, spec: LatentSpec) -> LatentSpec:
    """`spec` with the learned priors that `row` logged, if its priors are learned."""
    if not spec.priors:
        return spec
    logged = [
        [row.get(f"prior/{name}/{number}", share) for number, share in enumerate(prior)]
        for name, prior in zip(spec.categorical_names, spec.priors, strict=True)
    ]
    return spec.with_priors(torch.tensor(shares) for shares in logged)


def _rare_classes(rows: Sequence[Row], spec: LatentSpec, collapse: CollapseConfig) -> Iterator[tuple[str, str]]:
    """Q assigns few reals to a class: it may have split one class of the images and merged two others. Shares are averaged over the
    rows, because one batch is noisy. Unused classes have their own warning. A learned prior follows Q's shares, so there is none."""
    if spec.priors:
        return
    for name, width in zip(spec.categorical_names, spec.categorical, strict=True):
        shares = {number: _all(rows, f"usage/{name}/{number}") for number in range(width)}
        means = {
            number: sum(each) / len(each) for number, each in shares.items() if each and max(each) >= collapse.usage
        }
        rare = {number: mean for number, mean in means.items() if mean < collapse.rare_class / width}
        if rare:
            found = ", ".join(f"{mean:.1%} to class {number}" for number, mean in rare.items())
            yield (
                f"{name} rare",
                f"Q assigns few real images to some classes of {name}: {found} on average {{since}}, of {1 / width:.1%} for even "
                "classes; set objective.lambda_clustering (say 1) with objective.clustering_entropy_weight (say 1.5) or choose "
                "another seed; if the images have rare classes, set objective.clustering_entropy_weight below 1 and latents.prior = "
                "learned, or lower collapse.rare_class",
            )


def _all(rows: Sequence[Row], key: str) -> list[float]:
    """The values of `key` in all rows; empty if one is missing or not finite."""
    numbers = [math.nan if row.get(key) is None else float(row[key]) for row in rows]
    return numbers if all(map(math.isfinite, numbers)) else []
