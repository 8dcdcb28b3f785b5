"""One endless global stream of images: the image at a position depends only on the seed and the position."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor
from tqdm import tqdm

from infogan_dist.data.host_memory import free_bytes
from infogan_dist.data.sources import RESIDENT_SHARE, ImageSource, is_drawn
from infogan_dist.randomness import DataOrder, Stream

_CHUNK = 1024  # images read at a time


class ImageCache:
    """Images by index, float [B, C, H, W] in [-1, 1] on `device`.

    A small data set is kept on the device as uint8. A background thread reads a larger one, and draws one that is drawn, after
    `prefetch` ahead of time.
    """

    def __init__(self, source: ImageSource, device: torch.device, dtype: torch.dtype, show_progress: bool = False):
        self._source, self._device, self._dtype = source, device, dtype
        example = source.read(torch.zeros(1, dtype=torch.int64))
        fits = len(source) * example.numel() <= RESIDENT_SHARE * free_bytes(device)
        resident = fits and not is_drawn(source)  # to draw all would take minutes before the first step
        self._resident = _read_all(source, show_progress).to(device) if resident else None
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="images")
        self._prefetched: dict[tuple[int, ...], Future[Tensor]] = {}

    def __len__(self) -> int:
        return len(self._source)

    def read(self, indexes: Tensor) -> Tensor:
        """The images at `indexes`, int64 [B] on the CPU."""
        (images,) = self.read_together(indexes)
        return images

    def read_together(self, *index_sets: Tensor) -> list[Tensor]:
        """The images of each set of indices. An image that occurs more than once is read once."""
        if self._resident is not None:
            return [self._scaled(self._resident[self._on_device(indexes)]) for indexes in index_sets]
        distinct, positions = torch.cat(index_sets).unique(return_inverse=True)
        future = self._prefetched.pop(tuple(distinct.tolist()), None) or self._submit(distinct)
        images = future.result().to(self._device, non_blocking=True)
        return [self._scaled(images[self._on_device(each)]) for each in positions.split([*map(len, index_sets)])]

    def prefetch(self, *index_sets: Tensor) -> None:
        """Start reading the images of the next `read_together`."""
        if self._resident is None:
            distinct = torch.cat(index_sets).unique()
            key = tuple(distinct.tolist())
            if key not in self._prefetched:
                self._prefetched[key] = self._submit(distinct)

    def _on_device(self, indexes: Tensor) -> Tensor:
        """Copy from pinned memory, so that the host does not wait for the device."""
        return indexes.pin_memory().to(self._device, non_blocking=True) if self._device.type == "cuda" else indexes

    def _scaled(self, images: Tensor) -> Tensor:
        return images.to(self._dtype).div_(127.5).sub_(1)

    def _submit(self, indexes: Tensor) -> Future[Tensor]:
        pin = self._device.type == "cuda"

        def read() -> Tensor:
            images = self._source.read(indexes)
            return images.pin_memory() if pin else images

        return self._reader.submit(read)


def _read_all(source: ImageSource, show_progress: bool) -> Tensor:
    """Every image of a source, uint8 [N, C, H, W]. Shows a progress bar if it takes longer than two seconds."""
    indexes = torch.arange(len(source))
    first = source.read(indexes[:1])
    images = first.new_empty(len(source), *first.shape[1:])
    interval = 0.5 if sys.stderr.isatty() else 10
    with tqdm(
        total=len(source), desc="reading images", unit="image", delay=2, mininterval=interval, disable=not show_progress
    ) as bar:
        for chunk in indexes.split(_CHUNK):
            images[chunk] = source.read(chunk)
            bar.update(len(chunk))
    return images


class ImageStream:
    """The index of the image at each global position. A data set smaller than a batch repeats."""

    def __init__(self, size: int, seed: int):
        self._order, self._positives = DataOrder(seed, size), Stream(seed, "partners")

    def at(self, positions: Tensor) -> Tensor:
        """The image indices at `positions`, both int64 [B] on the CPU."""
        return self._order.at(positions)

    def positives_at(self, positions: Tensor, share: float, neighbours: Callable[[], Tensor]) -> Tensor:
        """The index of the positive of each image of `at`, int64 [B]: for this share of the images one of its `neighbours`
        [N, n], else the image itself."""
        indexes = self.at(positions)
        if not share:
            return indexes
        nearest = neighbours()
        draw, choice = self._positives.uniform(positions, 2).unbind(1)
        neighbour = nearest[indexes, (choice * nearest.shape[1]).long()]
        return torch.where(draw < share, neighbour, indexes)
