"""The only place that hands out labels and factors. Nothing outside `evaluation` may import it (tests/test_label_firewall.py)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from infogan_dist.config.schema import DataConfig
from infogan_dist.data import mnist_mini, sprites
from infogan_dist.data.sources import (
    HELD_AGAINST_CLASSES,
    TORCHVISION,
    ImageSource,
    file_split,
    open_images,
    open_torchvision,
    part_of,
)
from infogan_dist.errors import UserError
from infogan_dist.evaluation.metrics.disentanglement import Variables

CLASSES = 10  # of every data set in HELD_AGAINST_CLASSES


@dataclass(frozen=True)
class LabelledImages:
    """Images and the class of each, int64 [N] in 0..CLASSES-1, in the order of `source`."""

    source: ImageSource
    labels: Tensor


def open_labelled(data: DataConfig, split: str) -> LabelledImages:
    """The `train` or `test` images of the config's size, with their labels. Raises UserError for data without labels."""
    if data.name not in HELD_AGAINST_CLASSES:
        raise UserError(f"data.name = {data.name} has no labels; use one of {', '.join(HELD_AGAINST_CLASSES)}")
    files = file_split(data, split)
    if data.name == "mnist-mini":
        labels = torch.from_numpy(mnist_mini.load(files)[1])
    else:
        labels = open_torchvision(TORCHVISION[data.name], data, files).targets
    source, part = open_images(data, split), part_of(data, split, len(labels))
    if len(source) != (len(labels) if part is None else len(part)) or not bool(
        ((labels >= 0) & (labels < CLASSES)).all()
    ):
        raise UserError(
            f"the labels of {data.name} do not fit its images; remove its files, and they are downloaded again"
        )
    return LabelledImages(source, (labels if part is None else labels[part]).long())


@dataclass(frozen=True)
class Factors:
    """What images were made from, by name."""

    names: tuple[str, ...]
    variables: Variables


def known_factors(data: DataConfig, split: str, indexes: Tensor) -> Factors | None:
    """The factors of the `train` or `test` images at `indexes`; None where they are not known."""
    if data.name != "sprites":
        return None
    files = file_split(data, split)
    part = part_of(data, split, sprites.COUNT[files])
    values = sprites.factors_at(files, indexes if part is None else part[indexes])
    return Factors(sprites.FACTORS, Variables(values, tuple(name == "shape" for name in sprites.FACTORS)))
