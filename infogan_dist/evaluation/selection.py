"""The `select` command: the run to keep, chosen without labels.

Seeds of one recipe that found the same classes agree; one that merged or split classes agrees with few others. Continuous codes are
compared by ModelCentrality.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from infogan_dist.config.running import ProcessesConfig
from infogan_dist.data.fingerprint import fingerprint
from infogan_dist.data.sources import ImageSource, open_images
from infogan_dist.distributed.group import Group
from infogan_dist.distributed.launcher import Launch
from infogan_dist.errors import UserError
from infogan_dist.evaluation.centrality import centralities, cross_scores
from infogan_dist.evaluation.command import THREADS
from infogan_dist.evaluation.contingency import contingency
from infogan_dist.evaluation.evaluated_model import EvaluatedModel, from_checkpoint
from infogan_dist.evaluation.metrics.calibration import mean_entropy

LEAST_RUNS = 3  # two runs agree equally with each other
LEAST_CONTINUOUS = 2  # codes: of a single one every FactorVAE score is 1


@dataclass(frozen=True)
class Selection:
    """The index of the medoid, and the mean agreement of each run with the others, in 0..1."""

    medoid: int
    agreements: tuple[float, ...]


def select(paths: Sequence[Path], launch: Launch) -> None:
    """Print the agreement of each run with the others, and the run to keep: by classes on unlabelled train images, by continuous codes
    on images of each G. Every rank calls it.

    Raises UserError for fewer than LEAST_RUNS runs, and for runs with other data or codes than the first.
    """
    if len(paths) < LEAST_RUNS:
        raise UserError(f"select needs at least {LEAST_RUNS} runs, not {len(paths)}: two agree equally with each other")
    with Group(launch, THREADS, ProcessesConfig()) as group:
        models = [from_checkpoint(path, group) for path in paths]
        source = group.on_all(lambda: open_images(models[0].config.data, "train"))
        group.on_main(lambda: _check(paths, models, source))
        if models[0].spec.categorical:
            found = medoid([classes_of(model, source, group) for model in models])
            entropies = [entropy_of(model, source, group) for model in models]
            group.announce(*_by_classes(paths, found, entropies, len(source)))
        if models[0].spec.continuous >= LEAST_CONTINUOUS:
            central = centralities(cross_scores(models, group))
            group.announce(*_by_continuous_codes(paths, central, models[0].fresh))


def medoid(predicted: Sequence[Tensor]) -> Selection:
    """The run that agrees best with the others on average, the first of equals. `predicted` are classes, int64 [N, codes], of each run."""
    count = len(predicted)
    pairs = torch.ones(count, count, dtype=torch.float64)
    for i in range(count):
        for j in range(i):
            pairs[i, j] = pairs[j, i] = agreement(predicted[i], predicted[j])
    means = (pairs.sum(1) - 1) / (count - 1)
    return Selection(int(means.argmax()), tuple(means.tolist()))


def agreement(ours: Tensor, theirs: Tensor) -> float:
    """The share of images on which two runs agree after the best one-to-one matching of their classes (Kuhn 1955), mean over codes.

    Classes are int64 [N, codes]. 1 where the partitions are equal, 1 / K or more where they are unrelated.
    """
    shares = []
    for a, b in zip(ours.T, theirs.T, strict=True):
        counts = contingency(a, b).numpy()
        shares.append(int(counts[linear_sum_assignment(counts, maximize=True)].sum()) / len(ours))
    return sum(shares) / len(shares)


def classes_of(model: EvaluatedModel, source: ImageSource, group: Group) -> Tensor:
    """The most likely class of each categorical code, int64 [N, codes], on the images of `source`."""
    return torch.stack([logits.argmax(1) for logits in model.posteriors(source, group).logits], dim=1)


def entropy_of(model: EvaluatedModel, source: ImageSource, group: Group) -> float:
    """The mean entropy in nats of Q's prediction for an image of `source`, mean over categorical codes."""
    entropies = [mean_entropy(logits) for logits in model.posteriors(source, group).logits]
    return sum(entropies) / len(entropies)


def _check(paths: Sequence[Path], models: Sequence[EvaluatedModel], source: ImageSource) -> None:
    """Raises UserError unless all runs have codes to compare, the same codes, and the same images."""
    first, data = models[0], models[0].config.data
    if not first.spec.categorical and first.spec.continuous < LEAST_CONTINUOUS:
        raise UserError(
            f"{paths[0]} has one continuous code and no other; select compares classes, or at least {LEAST_CONTINUOUS} continuous codes"
        )
    found = fingerprint(source)
    for path, model in zip(paths, models, strict=True):
        if model.spec.categorical != first.spec.categorical or model.spec.continuous != first.spec.continuous:
            raise UserError(
                f"{path} has the codes {_codes(model)}, {paths[0]} {_codes(first)}; give runs of one recipe"
            )
        theirs = model.config.data.model_copy(update={"root": data.root})  # the folder may have moved
        if theirs != data:
            raise UserError(f"{path} was trained on data.{_first_difference(theirs, data)}; give runs on the same data")
        recorded = model.origin.images if model.origin else None
        difference = recorded.difference(found) if recorded else None
        if difference:
            raise UserError(
                f"{path} was trained on other images than {paths[0]}: {difference}; give runs on the same data"
            )


def _codes(model: EvaluatedModel) -> str:
    return f"{list(model.spec.categorical)} and {model.spec.continuous} continuous"


def _first_difference(theirs: object, data: object) -> str:
    keys = {key: (value, vars(data)[key]) for key, value in vars(theirs).items()}
    return next(f"{key} = {ours}, the first run on {first}" for key, (ours, first) in keys.items() if ours != first)


def _by_classes(paths: Sequence[Path], found: Selection, entropies: Sequence[float], images: int) -> list[str]:
    heading = f"mean agreement of the classes with the others, and mean entropy of Q, on {images:,} train images, without labels"
    values = [
        f"{100 * share:.2f} %, {entropy:.4f} nats" for share, entropy in zip(found.agreements, entropies, strict=True)
    ]
    return [*_table(paths, heading, values), f"selected by classes: {paths[found.medoid]}"]


def _by_continuous_codes(paths: Sequence[Path], central: Sequence[float], images: int) -> list[str]:
    heading = (
        f"ModelCentrality of the continuous codes: mean FactorVAE score with the others on {images:,} images of each G"
    )
    selected = paths[central.index(max(central))]
    return [*_table(paths, heading, [f"{each:.3f}" for each in central]), f"selected by continuous codes: {selected}"]


def _table(paths: Sequence[Path], heading: str, values: Sequence[str]) -> list[str]:
    width = max(len(str(path)) for path in paths) + 2
    return [
        f"{'run':<{width}}{heading}",
        *(f"{path!s:<{width}}{value}" for path, value in zip(paths, values, strict=True)),
    ]
