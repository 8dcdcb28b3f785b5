"""Image sources: each returns any image by its index, as uint8, and has no labels.

registry/data_sets.py names the function that opens each data set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from infogan_dist.config.model import DataConfig
from infogan_dist.data import mnist_mini
from infogan_dist.errors import UserError
from infogan_dist.randomness import Stream
from infogan_dist.registry.data_sets import DATA_SETS

_RESIZE_CHUNK = 4096  # images resized at a time, to bound the float32 copies


class ImageSource(Protocol):
    """Images of one size by index."""

    def __len__(self) -> int: ...

    def read(self, indexes: Tensor) -> Tensor:
        """uint8 [len(indexes), C, H, W] on the CPU, for int64 indexes on the CPU."""


class ArraySource:
    """Images that are in memory, uint8 [N, C, H, W]."""

    def __init__(self, images: Tensor):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indexes: Tensor) -> Tensor:
        return self.images[indexes]


class PartSource:
    """The images of another source at some of its indexes."""

    def __init__(self, source: ImageSource, indexes: Tensor):
        self._source, self._indexes = source, indexes

    def __len__(self) -> int:
        return len(self._indexes)

    def read(self, indexes: Tensor) -> Tensor:
        return self._source.read(self._indexes[indexes])


def open_images(data: DataConfig, split: str = "train") -> ImageSource:
    """The images of a data set's `train` or `test` part, without labels; downloads what torchvision can.

    With `data.held_out`, `test` is the train images that `train` leaves out; else a data set without a test part gives all its
    images as both. Raises UserError where the files are missing and cannot be had, or no image is left to train on.
    """
    source: ImageSource = DATA_SETS.load(data.name, "open", Callable)(data, file_split(data, split))
    part = part_of(data, split, len(source))
    return source if part is None else PartSource(source, part)


def scored_split(data: DataConfig, trained_on: bool = True) -> str:
    """Which images an evaluation scores: `test`, `held-out train images`, or `train` where there are no others.

    `trained_on`: whether the run was trained on this data set. Images of a folder that it was not trained on are `test`.
    """
    if data.held_out:
        return "held-out train images"
    return "test" if DATA_SETS[data.name].has_test_part or not trained_on else "train"


def images_of(split: str) -> str:
    """The name of a split for users: `test images`."""
    return split if split.endswith("images") else f"{split} images"


def file_split(data: DataConfig, split: str) -> str:
    """The part of the files that contains a split."""
    return "train" if data.held_out else split


def part_of(data: DataConfig, split: str, size: int) -> Tensor | None:
    """The indexes of a split among the `size` images of its `file_split`, int64, in order; None where it is all of them.

    Which are held out is the same for every seed and every config.
    """
    if not data.held_out:
        return None
    if data.held_out >= size:
        raise UserError(f"data.held_out = {data.held_out} leaves none of the {size} train images; lower it")
    order = Stream(0, "held out").permutation(0, size)
    return (order[: data.held_out] if split == "test" else order[data.held_out :]).sort().values


def open_mnist_mini(data: DataConfig, split: str) -> ImageSource:
    return resized(torch.from_numpy(mnist_mini.load(split)[0])[:, None], data.image_size)


def scaled(images: Tensor) -> Tensor:
    """uint8 to [-1, 1] as training scales reals, float32."""
    return images.float().div(127.5).sub(1)


def resized(images: Tensor, image_size: int) -> ImageSource:
    """Images [N, C, H, W] as a source of square images of `image_size` pixels."""
    size = [image_size, image_size]
    if list(images.shape[2:]) != size:
        images = torch.cat([resize(chunk, size, antialias=True) for chunk in images.split(_RESIZE_CHUNK)])
    return ArraySource(images)
