"""Data sets made from the digits of MNIST in data.root, or of mnist-mini if data.root is not given.

`stacked-mnist` (Metz et al. 2017, section 3.3.1): colour images whose red, green and blue channels are three digits chosen at
random: 1,000 modes. `imbalanced-mnist`: train digits of which digit 0 is 20 times as frequent as digit 9, and all test digits.
"""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import torch
from torch import Tensor

from infogan_dist.config.model import DataConfig
from infogan_dist.data.sources import ImageSource, PartSource, open_images
from infogan_dist.errors import UserError
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


def imbalanced_indexes(data: DataConfig, digits: int) -> Tensor:
    """The train images of `imbalanced-mnist` among the `digits` train images of its base, int64 [N], from the shipped file.

    evaluation/imbalanced_subset.py wrote the file from labels. Raises UserError if the base has another number of images.
    """
    name = base_of(data).name
    with files("infogan_dist.data").joinpath("imbalanced_mnist.npz").open("rb") as file, np.load(file) as arrays:
        mask = torch.from_numpy(np.unpackbits(arrays[name]))
    if len(mask) != digits:
        raise UserError(
            f"data.root = {data.root} holds {digits} train images of {name}, but data.name = imbalanced-mnist needs MNIST's "
            f"{len(mask)}; set data.root to a folder with the original files, or leave it out to use mnist-mini"
        )
    return mask.nonzero().flatten()


def open_imbalanced_mnist(data: DataConfig, split: str) -> ImageSource:
    """The test digits are not imbalanced, so that the code error weights all digits about equally."""
    digits = open_images(base_of(data), split)
    return PartSource(digits, imbalanced_indexes(data, len(digits))) if split == "train" else digits
