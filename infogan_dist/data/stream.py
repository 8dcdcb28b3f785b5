"""One endless global stream of images: the image at a position depends on the seed and the position alone."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from infogan_dist.data.sources import ImageSource
from infogan_dist.host_memory import free_bytes
from infogan_dist.randomness import DataOrder

RESIDENT_SHARE = 1 / 16  # of the device's free memory: eight processes of one host may each hold a copy


class ImageStream:
    """Reals at global positions, float [B, C, H, W] in [-1, 1] on `device`.

    A small set lies on the device as uint8; a larger one is read by one background thread, ahead of need once it is told what
    comes next. A set smaller than a batch wraps.
    """

    def __init__(self, source: ImageSource, seed: int, device: torch.device, dtype: torch.dtype):
        self._source, self._order = source, DataOrder(seed, len(source))
        self._device, self._dtype = device, dtype
        one = source.read(torch.zeros(1, dtype=torch.int64))
        resident = len(source) * one.numel() <= RESIDENT_SHARE * free_bytes(device)
        self._resident = source.read(torch.arange(len(source))).to(device) if resident else None
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="images")
        self._ahead: dict[tuple[int, ...], Future[Tensor]] = {}

    def at(self, positions: Tensor) -> Tensor:
        """The images at `positions`, int64 [B] on the CPU."""
        if self._resident is not None:
            indexes = self._order.at(positions)
            if self._device.type == "cuda":  # a copy from pinned memory: the host does not wait for the device
                indexes = indexes.pin_memory().to(self._device, non_blocking=True)
            images = self._resident[indexes]
        else:
            future = self._ahead.pop(tuple(positions.tolist()), None) or self._submit(positions)
            images = future.result().to(self._device, non_blocking=True)
        return images.to(self._dtype).div_(127.5).sub_(1)

    def prefetch(self, positions: Tensor) -> None:
        """Start reading what `at` will be asked for next."""
        if self._resident is None:
            self._ahead[tuple(positions.tolist())] = self._submit(positions)

    def _submit(self, positions: Tensor) -> Future[Tensor]:
        indexes, pin = self._order.at(positions), self._device.type == "cuda"

        def read() -> Tensor:
            images = self._source.read(indexes)
            return images.pin_memory() if pin else images

        return self._reader.submit(read)
