"""The real images that a model is evaluated on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from infogan_dist.config.model import DataConfig
from infogan_dist.data.sources import ArraySource, ImageSource, open_images
from infogan_dist.evaluation.labels import Factors, class_names, known_factors, open_labelled


@dataclass(frozen=True)
class Reals:
    """`test` images, which are scored, and `train` images, which a matching is fitted on.

    `test` are the images that `scored_split` names: train images where the data set has no test part and none are held out.
    Labels, int64 [N], and the factors of the test images are None where the data has none.
    """

    data: DataConfig
    train: ImageSource
    test: ImageSource
    train_labels: Tensor | None
    test_labels: Tensor | None
    test_factors: Factors | None = None
    class_names: tuple[str, ...] = ()

    @classmethod
    def open(cls, data: DataConfig, most_train: int | None = None, most_test: int | None = None) -> Reals:
        """The data set, or at most this many images of each part, evenly spaced. Raises UserError where files are missing."""
        names = class_names(data)
        if names:
            fit, scored = (open_labelled(data, split) for split in ("train", "test"))
            train, train_indexes = _spaced(fit.source, most_train)
            test, indexes = _spaced(scored.source, most_test)
            labels: tuple[Tensor | None, Tensor | None] = (fit.labels[train_indexes], scored.labels[indexes])
        else:
            train, _ = _spaced(open_images(data, "train"), most_train)
            test, indexes = _spaced(open_images(data, "test"), most_test)
            labels = (None, None)
        return cls(data, train, test, *labels, known_factors(data, "test", indexes), names)

    @property
    def classes(self) -> int:
        """The number of classes; 0 without labels."""
        return len(self.class_names)


def _spaced(source: ImageSource, most: int | None) -> tuple[ImageSource, Tensor]:
    """At most `most` images of a source, and their indexes in it."""
    if most is None or len(source) <= most:
        return source, torch.arange(len(source))
    indexes = torch.arange(most) * len(source) // most
    return ArraySource(source.read(indexes)), indexes
