"""One endless global stream of images: the image at a position depends on the seed and the position alone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor
from tqdm import tqdm

from infogan_dist.data.host_memory import free_bytes
from infogan_dist.data.sources import ImageSource
from infogan_dist.randomness import DataOrder, Stream

_CHUNK = 1024  # images read at a time
RESIDENT_SHARE = 1 / 16  # of the device's free memory: eight processes of one host may each hold a copy


class ImageCache:
    """Images by index, float [B, C, H, W] in [-1, 1] on `device`.

    A small set lies on the device as uint8; a larger one is read by one background thread, ahead of need once it is told what
    comes next.
    """

    def __init__(self, source: ImageSource, device: torch.device, dtype: torch.dtype, show_progress: bool = False):
        self._source, self._device, self._dtype = source, device, dtype
        one = source.read(torch.zeros(1, dtype=torch.int64))
        resident = len(source) * one.numel() <= RESIDENT_SHARE * free_bytes(device)
        self._resident = _read_all(source, show_progress).to(device) if resident else None
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="images")
        self._ahead: dict[tuple[int, ...], Future[Tensor]] = {}

    def __len__(self) -> int:
        return len(self._source)

    def read(self, indexes: Tensor) -> Tensor:
        """The images at `indexes`, int64 [B] on the CPU."""
        (images,) = self.read_together(indexes)
        return images

    def read_together(self, *index_sets: Tensor) -> list[Tensor]:
        """The images of each of these sets of indexes; one that occurs more than once is read once."""
        if self._resident is not None:
            return [self._scaled(self._resident[self._on_device(indexes)]) for indexes in index_sets]
        distinct, places = torch.cat(index_sets).unique(return_inverse=True)
        future = self._ahead.pop(tuple(distinct.tolist()), None) or self._submit(distinct)
        images = future.result().to(self._device, non_blocking=True)
        return [self._scaled(images[self._on_device(place)]) for place in places.split([*map(len, index_sets)])]

    def prefetch(self, *index_sets: Tensor) -> None:
        """Start reading what `read_together` will be asked for next."""
        if self._resident is None:
            distinct = torch.cat(index_sets).unique()
            key = tuple(distinct.tolist())
            if key not in self._ahead:
                self._ahead[key] = self._submit(distinct)

    def _on_device(self, indexes: Tensor) -> Tensor:
        """A copy from pinned memory: the host does not wait for the device."""
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
    """Every image of a source, uint8 [N, C, H, W]; with a bar where that takes longer than a moment."""
    indexes = torch.arange(len(source))
    images = torch.empty(len(source), *source.read(indexes[:1]).shape[1:], dtype=torch.uint8)
    pace = 0.5 if sys.stderr.isatty() else 10
    with tqdm(
        total=len(source), desc="reading images", unit="image", delay=2, mininterval=pace, disable=not show_progress
    ) as bar:
        for chunk in indexes.split(_CHUNK):
            images[chunk] = source.read(chunk)
            bar.update(len(chunk))
    return images


class ImageStream:
    """Which image stands at each global position. A set smaller than a batch wraps."""

    def __init__(self, size: int, seed: int):
        self._order, self._partners = DataOrder(seed, size), Stream(seed, "partners")

    def at(self, positions: Tensor) -> Tensor:
        """The images' indexes at `positions`, both int64 [B] on the CPU."""
        return self._order.at(positions)

    def positives_at(self, positions: Tensor, share: float, neighbours: Callable[[], Tensor]) -> Tensor:
        """An image to go with each of `at`: itself, or for this share of the images one of its `neighbours`, int64 [N, n]."""
        indexes = self.at(positions)
        if not share:
            return indexes
        nearest = neighbours()
        whether, which = self._partners.uniform(positions, 2).unbind(1)
        chosen = nearest[indexes, (which * nearest.shape[1]).long()]
        return torch.where(whether < share, chosen, indexes)
