"""Data sets made from the digits of MNIST in data.root, or of mnist-mini if data.root is not given.

`stacked-mnist` (Metz et al. 2017, section 3.3.1): colour images whose red, green and blue channels are three digits chosen at
random: 1,000 modes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from infogan_dist.config.model import DataConfig
from infogan_dist.data.sources import ImageSource, open_images
from infogan_dist.randomness import Stream

STACKED_COUNT = {"train": 128_000, "test": 26_000}


class StackedDigits:
    """Images of three digits each, uint8 [N, 3, H, W], stacked when they are read.

    digits: a source of grey images; chosen: the digit of each channel, int64 [N, 3].
    """

    def __init__(self, digits: ImageSource, chosen: Tensor):
        self._digits, self._chosen = digits, chosen

    def __len__(self) -> int:
        return len(self._chosen)

    def read(self, indexes: Tensor) -> Tensor:
        digits = self._digits.read(self._chosen[indexes].flatten())
        return digits.view(len(indexes), 3, *digits.shape[2:])


def base_of(data: DataConfig) -> DataConfig:
    """The data set that the digits come from. None of its images are held out."""
    name = "mnist-mini" if data.root is None else "mnist"
    return data.model_copy(update={"name": name, "channels": 1, "held_out": 0})


def stacked_indexes(split: str, digits: int) -> Tensor:
    """The index of the red, green and blue digit of every image, int64 [N, 3], independent and uniform below `digits`. They are the
    same for every seed of a run."""
    rows = torch.arange(STACKED_COUNT[split])
    return Stream(0, f"stacked-mnist/{split}").integers(rows, 3, below=digits)


def open_stacked_mnist(data: DataConfig, split: str) -> ImageSource:
    digits = open_images(base_of(data), split)
    return StackedDigits(digits, stacked_indexes(split, len(digits)))
