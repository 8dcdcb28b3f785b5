"""What a code error is to be held against: the same matching, fitted on train and applied to test, of predictions that no
InfoGAN made."""

from __future__ import annotations

import torch
from torch import Tensor

from infogan_dist.data.sources import ImageSource
from infogan_dist.distributed.group import Group
from infogan_dist.evaluation.figures import Figures
from infogan_dist.evaluation.metrics.clustering import agreement
from infogan_dist.evaluation.metrics.code_error import error, fit_matching
from infogan_dist.evaluation.reals import Reals
from infogan_dist.randomness import Stream

SEED = 0  # of the controls' own draws: they belong to the data, not to a run
ITERATIONS = 100  # of Lloyd at most: MNIST's converge in about as many
CHUNK = 4096  # images at a time, to bound the float64 copies


def controls(reals: Reals, group: Group) -> list[Figures]:
    """A row each for k-means on pixels, random codes and a single class. None without labels. Every rank calls it."""
    if reals.train_labels is None or reals.test_labels is None:
        return []
    labels, stream = (reals.train_labels, reals.test_labels), Stream(SEED, "controls")
    predicted = {
        "k-means on pixels": group.on_main(lambda: by_k_means(reals, stream.derived("k-means"))),
        "random codes": (
            random(len(labels[0]), reals.classes, stream.derived("train")),
            random(len(labels[1]), reals.classes, stream.derived("test")),
        ),
        "one class for all": (torch.zeros_like(labels[0]), torch.zeros_like(labels[1])),
    }
    return [
        {"control": name, "data": reals.data.name, **scored(each, labels, reals.classes)}
        for name, each in predicted.items()
    ]


def scored(predicted: tuple[Tensor, Tensor], labels: tuple[Tensor, Tensor], classes: int) -> Figures:
    """`code_error`, `purity`, ... of classes predicted for train and test images, int64 each."""
    matching = fit_matching(predicted[0], labels[0], (classes, classes))
    return {"code_error": error(predicted[1], labels[1], matching), **agreement(predicted[1], labels[1])}


def random(count: int, classes: int, stream: Stream) -> Tensor:
    """A class at random for each of `count` images, int64."""
    return stream.integers(torch.arange(count), 1, classes)[:, 0]


def by_k_means(reals: Reals, stream: Stream) -> tuple[Tensor, Tensor]:
    """The nearest of the centres of the train images, for train and test images."""
    train, test = pixels(reals.train), pixels(reals.test)
    centres = k_means(train, reals.classes, stream)
    return nearest(train, centres)[0], nearest(test, centres)[0]


def pixels(source: ImageSource) -> Tensor:
    """All images of a source as uint8 [N, C·H·W]."""
    return torch.cat([source.read(indexes).flatten(1) for indexes in torch.arange(len(source)).split(CHUNK)])


def k_means(points: Tensor, k: int, stream: Stream) -> Tensor:
    """Centres, float64 [k, D], of points [N, D]: k-means++ (Arthur and Vassilvitskii 2007), then Lloyd's iterations until no
    point changes its centre. Sums of uint8 are exact, so that the order of adding changes nothing."""
    centres = points[stream.integers(torch.tensor([0]), 1, len(points))[:, 0]].double()
    for row in range(1, k):
        mass = nearest(points, centres)[1].cumsum(0)
        chosen = torch.searchsorted(mass, stream.uniform(torch.tensor([row]), 1).double()[0] * mass[-1], right=True)
        centres = torch.cat([centres, points[chosen.clamp_max(len(points) - 1)].double()])
    owner = torch.full((len(points),), -1)
    for _ in range(ITERATIONS):
        before, owner = owner, nearest(points, centres)[0]
        if torch.equal(before, owner):
            break
        sums = torch.zeros_like(centres)
        for chunk, owners in zip(points.split(CHUNK), owner.split(CHUNK), strict=True):
            sums.index_add_(0, owners, chunk.double())
        counts = owner.bincount(minlength=k)[:, None]
        centres = torch.where(counts > 0, sums / counts.clamp_min(1), centres)
    return centres


def nearest(points: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Of points [N, D] the nearest centre, int64 [N], and the squared distance to it, float64 [N]."""
    parts = []
    for chunk in points.split(CHUNK):
        point = chunk.double()
        squared = point.square().sum(1, keepdim=True) - 2 * point @ centres.T + centres.square().sum(1)
        parts.append(squared.clamp_min(0).min(1))
    return torch.cat([part.indices for part in parts]), torch.cat([part.values for part in parts])
