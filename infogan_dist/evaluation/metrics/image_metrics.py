"""The metrics of G's images: what the classifier makes of fresh samples, and what each continuous code does to the pen.

On digits only: elsewhere there is no classifier and no pen, and the metrics are absent.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from infogan_dist.data.sources import ImageSource
from infogan_dist.distributed.group import Group
from infogan_dist.evaluation import reference_classifier
from infogan_dist.evaluation.evaluated_model import EvaluatedModel, scaled
from infogan_dist.evaluation.metric_values import Metrics
from infogan_dist.evaluation.metrics.code_error import match
from infogan_dist.evaluation.metrics.continuous import attributes, effects
from infogan_dist.evaluation.metrics.frechet import frechet_distance, kernel_distance
from infogan_dist.evaluation.metrics.modes import class_shares, mode_coverage, reverse_kl
from infogan_dist.evaluation.metrics.neighbourhoods import neighbourhood_scores
from infogan_dist.evaluation.metrics.non_digit import least_confidence, non_digit_rate
from infogan_dist.evaluation.metrics.traversal import traversal_consistency
from infogan_dist.evaluation.reals import Reals
from infogan_dist.evaluation.reference_classifier import DIGITS, Reading, ReferenceClassifier, reading
from infogan_dist.randomness import Stream
from infogan_dist.registry.data_sets import DATA_SETS
from infogan_dist.sampling.batches import batches_of
from infogan_dist.sampling.grids import to_uint8

SWEEPS = 256  # z that each continuous code is swept for
LEVELS = 9  # of a sweep, from -1 to 1


@dataclass(frozen=True)
class Readings:
    """What the classifier makes of G's fresh images, of all test digits and of as many train digits as a distance is taken of."""

    fakes: Reading
    test: Reading
    train: Reading


def image_metrics(model: EvaluatedModel, reals: Reals, group: Group) -> Metrics:
    """Consistency, non-digits, modes, distances with their floors, neighbourhoods, and which classifier found them."""
    of_digits = DATA_SETS[reals.data.name].handwritten_digits
    if not of_digits or reals.train_labels is None or reals.test_labels is None:
        return {}
    file = group.on_main(lambda: _classifier_file(reals))
    classifier = reference_classifier.classifier_from(file).to(group.device)
    read = _readings(classifier, model, reals, group)
    right = (read.test.digits == reals.test_labels).double().mean().item()
    metrics = _consistency(read, model, reals, group)
    # pairs of images are compared on rank zero: done on every rank at once, they would only get in each other's way
    metrics |= group.on_main(lambda: scores(read))
    return metrics | {"classifier_accuracy": right, "classifier_sha256": reference_classifier.sha256(file)}


def scores(read: Readings) -> Metrics:
    """What follows from the readings alone. Both distances are to test digits; their floors, of train digits to them.

    The sets compared are of one size, and the floor is what a perfect memory of train digits would get.
    """
    fake_shares, real_shares = (class_shares(each.digits, DIGITS) for each in (read.fakes, read.test))
    size = len(read.train.features)
    fakes, test, train = (each.features[:size] for each in (read.fakes, _shuffled(read.test), read.train))
    return {
        "non_digit_rate": non_digit_rate(read.fakes.confidences, least_confidence(read.test.confidences)),
        "mode_coverage": mode_coverage(fake_shares, real_shares),
        "reverse_kl": reverse_kl(fake_shares, real_shares),
        "frechet": frechet_distance(fakes, test),
        "frechet_floor": frechet_distance(train, test),
        "kernel": kernel_distance(fakes, test),
        "kernel_floor": kernel_distance(train, test),
        **neighbourhood_scores(test, fakes),
    }


def continuous_effect(model: EvaluatedModel, reals: Reals, group: Group) -> Metrics:
    """`continuous_effect`: by code and attribute of the pen, its `Effect` with z and the other codes held."""
    spec = model.spec
    if not DATA_SETS[reals.data.name].handwritten_digits or not spec.continuous:
        return {}
    found = {}
    for name in spec.continuous_names:
        levels = spec.sweep_values(name, LEVELS)

        def measure(ours: Tensor, name: str = name, levels: Tensor = levels) -> Tensor:
            swept = model.latents(ours // LEVELS, **{name: levels[ours % LEVELS]})
            return attributes(model.draw(spec.vector(swept)))

        count = SWEEPS * LEVELS
        measured = group.map_batches(batches_of(count), measure)[:count]
        found[name] = {attribute: asdict(effect) for attribute, effect in effects(levels, measured).items()}
    return {"continuous_effect": found}


def _classifier_file(reals: Reals) -> bytes:
    assert reals.train_labels is not None
    return reference_classifier.classifier_file(
        reals.train.read(torch.arange(len(reals.train))), reals.train_labels, reals.data.name
    )


def _readings(classifier: ReferenceClassifier, model: EvaluatedModel, reals: Reals, group: Group) -> Readings:
    """Each set is shared out over the ranks; every rank gets all of it, on the CPU."""

    def read(source: ImageSource, indexes: Tensor) -> Reading:
        def table(ours: Tensor) -> Tensor:
            return _read(classifier, scaled(source.read(indexes[ours])).to(group.device))

        return reading(group.map_batches(batches_of(len(indexes)), table)[: len(indexes)].cpu())

    def fakes(ours: Tensor) -> Tensor:
        drawn = model.draw(model.spec.vector(model.latents(ours)))
        return _read(classifier, scaled(to_uint8(drawn)))  # in the 256 greys that reals come in

    size = min(model.fresh, len(reals.test), len(reals.train))
    chosen = _stream().derived("train").permutation(0, len(reals.train))[:size]
    drawn = group.map_batches(batches_of(model.fresh), fakes)[: model.fresh].cpu()
    return Readings(reading(drawn), read(reals.test, torch.arange(len(reals.test))), read(reals.train, chosen))


def _consistency(read: Readings, model: EvaluatedModel, reals: Reals, group: Group) -> Metrics:
    matched = match(model, reals, group)
    if matched is None:
        return {}
    position = model.spec.categorical_names.index(matched.name)
    drawn_classes = model.latents(torch.arange(model.fresh)).codes.categorical[:, position]
    return {"traversal_consistency": traversal_consistency(read.fakes.digits, drawn_classes, matched.matching)}


@torch.no_grad()
def _read(classifier: ReferenceClassifier, images: Tensor) -> Tensor:
    table: Tensor = classifier(images)
    return table


def _shuffled(read: Reading) -> Reading:
    """Test sets come sorted, by writer or digit: a part of one must not be its beginning."""
    order = _stream().derived("test").permutation(0, len(read.logits))
    return Reading(read.features[order], read.logits[order])


def _stream() -> Stream:
    """Which reals stand for all is no matter of a run: every model meets the same ones."""
    return Stream(0, "image figures")
