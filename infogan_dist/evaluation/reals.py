"""The real images that a subject is examined on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from infogan_dist.config.schema import DataConfig
from infogan_dist.data.sources import HELD_AGAINST_CLASSES, ArraySource, ImageSource, open_images
from infogan_dist.evaluation.labels import Factors, LabelledImages, known_factors, open_labelled


@dataclass(frozen=True)
class Reals:
    """`test` images, which every figure is of, and `train` images, which a matching is fitted on.

    `test` holds what `scored_split` says: train images where the data set has no test part and none are held out.

    The labels, int64 [N], and the factors that the test images were made from are None where the data has none.
    """

    data: DataConfig
    train: ImageSource
    test: ImageSource
    train_labels: Tensor | None
    test_labels: Tensor | None
    test_factors: Factors | None = None

    @classmethod
    def open(cls, data: DataConfig, most_train: int | None = None, most_test: int | None = None) -> Reals:
        """The data set, or at most so many images of each part, evenly spaced in it. Raises UserError where it is missing."""
        if data.name not in HELD_AGAINST_CLASSES:
            train, test = (open_images(data, split) for split in ("train", "test"))
            test, indexes = _spaced(test, most_test)
            factors = known_factors(data, "test", indexes)
            return cls(data, _spaced(train, most_train)[0], test, None, None, factors)
        fit, scored = (open_labelled(data, split) for split in ("train", "test"))
        train, train_labels = _labelled(fit, most_train)
        test, test_labels = _labelled(scored, most_test)
        return cls(data, train, test, train_labels, test_labels)


def _labelled(images: LabelledImages, most: int | None) -> tuple[ImageSource, Tensor]:
    source, indexes = _spaced(images.source, most)
    return source, images.labels[indexes]


def _spaced(source: ImageSource, most: int | None) -> tuple[ImageSource, Tensor]:
    """At most `most` images of a source, and their indexes in it."""
    if most is None or len(source) <= most:
        return source, torch.arange(len(source))
    indexes = torch.arange(most) * len(source) // most
    return ArraySource(source.read(indexes)), indexes
