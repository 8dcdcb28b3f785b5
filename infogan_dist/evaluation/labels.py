"""The only place that hands out labels. Nothing outside `evaluation` may import it (tests/test_label_firewall.py)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from infogan_dist.config import DataConfig
from infogan_dist.data import ImageSource, mnist_mini, open_images
from infogan_dist.data.sources import HELD_AGAINST_CLASSES, TORCHVISION, file_split, open_torchvision, part_of
from infogan_dist.errors import UserError

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
    part = part_of(data, split, len(labels))
    return LabelledImages(open_images(data, split), (labels if part is None else labels[part]).long())
