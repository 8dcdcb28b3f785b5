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
from infogan_dist.data.host_memory import free_bytes
from infogan_dist.errors import UserError
from infogan_dist.randomness import Stream
from infogan_dist.registry.data_sets import DATA_SETS

RESIDENT_SHARE = 1 / 16  # of the free memory: eight processes of one host may each hold a copy of a data set
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


class DrawnSource:
    """Images that `draw` computes from their indexes, int64 [N] to uint8 [N, C, H, W], at most `at_once` at a time.

    Each is drawn when it is first read. It is kept in memory if the whole set takes at most RESIDENT_SHARE of the free memory.
    """

    drawn = True

    def __init__(self, count: int, draw: Callable[[Tensor], Tensor], at_once: int):
        self._count, self._draw, self._at_once = count, draw, at_once
        shape = draw(torch.zeros(1, dtype=torch.int64)).shape[1:]
        self.keeps = count * shape.numel() <= RESIDENT_SHARE * free_bytes(torch.device("cpu"))
        self._images = torch.empty(count if self.keeps else 0, *shape, dtype=torch.uint8)
        self._drawn = torch.zeros(count, dtype=torch.bool)

    def __len__(self) -> int:
        return self._count

    def read(self, indexes: Tensor) -> Tensor:
        if not self.keeps:
            return torch.cat([self._draw(some) for some in indexes.split(self._at_once)])
        for some in indexes[~self._drawn[indexes]].unique().split(self._at_once):
            self._images[some] = self._draw(some)
            self._drawn[some] = True
        return self._images[indexes]


class PartSource:
    """The images of another source at some of its indexes."""

    def __init__(self, source: ImageSource, indexes: Tensor):
        self._source, self._indexes = source, indexes
        self.whole = source

    @property
    def drawn(self) -> bool:
        return is_drawn(self._source)

    def __len__(self) -> int:
        return len(self._indexes)

    def read(self, indexes: Tensor) -> Tensor:
        return self._source.read(self._indexes[indexes])


def is_drawn(source: ImageSource) -> bool:
    """Whether its images are computed when they are first read."""
    return getattr(source, "drawn", False)


def is_in_memory(source: ImageSource) -> bool:
    """Whether all of its images are in memory."""
    return isinstance(getattr(source, "whole", source), ArraySource)


def is_kept_when_read(source: ImageSource) -> bool:
    """Whether an image stays in memory once it was read."""
    return getattr(getattr(source, "whole", source), "keeps", False)


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
    held = data.held_out if isinstance(data.held_out, int) else max(1, round(data.held_out * size))
    if held >= size:
        raise UserError(f"data.held_out = {data.held_out} leaves none of the {size} train images; lower it")
    order = Stream(0, "held out").permutation(0, size)
    return (order[:held] if split == "test" else order[held:]).sort().values


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
