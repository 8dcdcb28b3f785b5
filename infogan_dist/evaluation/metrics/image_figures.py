"""The figures of G's images: what the judge makes of fresh samples, and what each continuous code does to the pen.

On digits only: elsewhere there is no judge and no pen, and the figures are absent.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from infogan_dist.data.sources import ImageSource
from infogan_dist.distributed.group import Group
from infogan_dist.evaluation import reference_classifier as judging
from infogan_dist.evaluation.figures import Figures
from infogan_dist.evaluation.metrics.code_error import match
from infogan_dist.evaluation.metrics.continuous import attributes, effects
from infogan_dist.evaluation.metrics.frechet import frechet_distance, kernel_distance
from infogan_dist.evaluation.metrics.modes import class_shares, mode_coverage, reverse_kl
from infogan_dist.evaluation.metrics.neighbourhoods import neighbourhood_scores
from infogan_dist.evaluation.metrics.non_digit import least_confidence, non_digit_rate
from infogan_dist.evaluation.metrics.traversal import traversal_consistency
from infogan_dist.evaluation.reals import Reals
from infogan_dist.evaluation.reference_classifier import DIGITS, Judge, Reading, reading
from infogan_dist.evaluation.subject import Subject, scaled
from infogan_dist.randomness import Stream
from infogan_dist.registry.data_sets import DATA_SETS
from infogan_dist.sampling.grids import batches_of, to_uint8

SWEEPS = 256  # z that each continuous code is swept for
LEVELS = 9  # of a sweep, from -1 to 1


@dataclass(frozen=True)
class Readings:
    """What the judge makes of G's fresh images, of all test digits and of as many train digits as a distance is taken of."""

    fakes: Reading
    test: Reading
    train: Reading


def image_figures(subject: Subject, reals: Reals, group: Group) -> Figures:
    """Consistency, non-digits, modes, distances with their floors, neighbourhoods, and which judge found them."""
    of_digits = DATA_SETS[reals.data.name].handwritten_digits
    if not of_digits or reals.train_labels is None or reals.test_labels is None:
        return {}
    file = group.on_main(lambda: _judge_file(reals))
    judge = judging.judge_from(file).to(group.device)
    read = _readings(judge, subject, reals, group)
    right = (read.test.digits == reals.test_labels).double().mean().item()
    figures = _consistency(read, subject, reals, group)
    # pairs of images are compared on rank zero: done on every rank at once, they would only get in each other's way
    figures |= group.on_main(lambda: scores(read))
    return figures | {"judge_accuracy": right, "judge_sha256": judging.sha256(file)}


def scores(read: Readings) -> Figures:
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


def continuous_effect(subject: Subject, reals: Reals, group: Group) -> Figures:
    """`continuous_effect`: by code and attribute of the pen, its `Effect` with z and the other codes held."""
    spec = subject.spec
    if not DATA_SETS[reals.data.name].handwritten_digits or not spec.continuous:
        return {}
    found = {}
    for name in spec.continuous_names:
        levels = spec.levels(name, LEVELS)

        def measure(ours: Tensor, name: str = name, levels: Tensor = levels) -> Tensor:
            swept = subject.latents(ours // LEVELS, **{name: levels[ours % LEVELS]})
            return attributes(subject.draw(spec.vector(swept)))

        count = SWEEPS * LEVELS
        measured = group.map_batches(batches_of(count), measure)[:count]
        found[name] = {attribute: asdict(effect) for attribute, effect in effects(levels, measured).items()}
    return {"continuous_effect": found}


def _judge_file(reals: Reals) -> bytes:
    assert reals.train_labels is not None
    return judging.judge_file(reals.train.read(torch.arange(len(reals.train))), reals.train_labels, reals.data.name)


def _readings(judge: Judge, subject: Subject, reals: Reals, group: Group) -> Readings:
    """Each set is shared out over the ranks; every rank gets all of it, on the CPU."""

    def read(source: ImageSource, indexes: Tensor) -> Reading:
        def table(ours: Tensor) -> Tensor:
            return _read(judge, scaled(source.read(indexes[ours])).to(group.device))

        return reading(group.map_batches(batches_of(len(indexes)), table)[: len(indexes)].cpu())

    def fakes(ours: Tensor) -> Tensor:
        drawn = subject.draw(subject.spec.vector(subject.latents(ours)))
        return _read(judge, scaled(to_uint8(drawn)))  # in the 256 greys that reals come in

    size = min(subject.fresh, len(reals.test), len(reals.train))
    chosen = _stream().derived("train").permutation(0, len(reals.train))[:size]
    drawn = group.map_batches(batches_of(subject.fresh), fakes)[: subject.fresh].cpu()
    return Readings(reading(drawn), read(reals.test, torch.arange(len(reals.test))), read(reals.train, chosen))


def _consistency(read: Readings, subject: Subject, reals: Reals, group: Group) -> Figures:
    matched = match(subject, reals, group)
    if matched is None:
        return {}
    position = subject.spec.categorical_names.index(matched.name)
    drawn_classes = subject.latents(torch.arange(subject.fresh)).codes.categorical[:, position]
    return {"traversal_consistency": traversal_consistency(read.fakes.digits, drawn_classes, matched.matching)}


@torch.no_grad()
def _read(judge: Judge, images: Tensor) -> Tensor:
    table: Tensor = judge(images)
    return table


def _shuffled(read: Reading) -> Reading:
    """Test sets come sorted, by writer or digit: a part of one must not be its beginning."""
    order = _stream().derived("test").permutation(0, len(read.logits))
    return Reading(read.features[order], read.logits[order])


def _stream() -> Stream:
    """Which reals stand for all is no matter of a run: every subject meets the same ones."""
    return Stream(0, "image figures")
