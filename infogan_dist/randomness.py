"""All random numbers of a run, as functions of (seed, stream name, global index).

A counter-based generator (Philox 4x32-10, Salmon et al. 2011) in integer torch operations. Any slice of a stream can be drawn by
itself, with the same bits on every device and any number of processes. torch's global generators are not used, so a resumed run
needs no generator state.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_INCREMENTS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_CHUNK = 2**14  # counters at a time, so that the ten rounds stay in a CPU's cache


def philox(counter: Tensor, key: tuple[int, int]) -> Tensor:
    """Philox 4x32-10 of `counter` [n, 4], 32-bit words in int64. Returns words of the same shape."""
    c0, c1, c2, c3 = counter.unbind(1)
    k0, k1 = key
    for _ in range(_ROUNDS):
        # int64 products wrap modulo 2^64, so both halves of the unsigned product are exact after the mask
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((product1 >> 32) & _MASK) ^ c1 ^ k0,
            product1 & _MASK,
            ((product0 >> 32) & _MASK) ^ c3 ^ k1,
            product0 & _MASK,
        )
        k0, k1 = (k0 + _KEY_INCREMENTS[0]) & _MASK, (k1 + _KEY_INCREMENTS[1]) & _MASK
    return torch.stack((c0, c1, c2, c3), dim=1)


class Stream:
    """A named, endless table of random numbers: row = global index (64 bits), column = dimension.

    The numbers depend on the name, so a name never changes when code is renamed.
    """

    def __init__(self, seed: int, name: str):
        digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
        self._key = (int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little"))
        self._seed, self._name = seed, name

    def bits(self, rows: Tensor, columns: int) -> Tensor:
        """Uniform 32-bit integers, int64 [len(rows), columns], on the device of `rows`."""
        blocks = -(-columns // 4)
        block = torch.arange(blocks, device=rows.device).expand(len(rows), blocks)
        row = rows[:, None].expand(len(rows), blocks)
        counter = torch.stack((block, torch.zeros_like(block), row & _MASK, (row >> 32) & _MASK), dim=2)
        chunks = counter.reshape(-1, 4).split(_CHUNK)
        return torch.cat([philox(chunk, self._key) for chunk in chunks]).view(len(rows), 4 * blocks)[:, :columns]

    def uniform(self, rows: Tensor, columns: int) -> Tensor:
        """U[0, 1) in multiples of 2^-24, float32 [len(rows), columns]: the same numbers on every device."""
        return (self.bits(rows, columns) >> 8).float() * 2.0**-24

    def normal(self, rows: Tensor, columns: int) -> Tensor:
        """N(0, 1), float32 [len(rows), columns], by Box-Muller in float64. Devices differ by rounding only."""
        pairs = -(-columns // 2)
        fractions = (self.bits(rows, 2 * pairs).double() + 1) * 2.0**-32  # in (0, 1], so that the logarithm is finite
        radius = (-2 * fractions[:, :pairs].log()).sqrt()
        angle = 2 * math.pi * fractions[:, pairs:]
        return torch.cat((radius * angle.cos(), radius * angle.sin()), dim=1)[:, :columns].float()

    def integers(self, rows: Tensor, columns: int, below: int) -> Tensor:
        """Uniform integers in [0, below), int64 [len(rows), columns]. The bias is under below / 2^32."""
        return (self.bits(rows, columns) * below) >> 32

    def permutation(self, row: int, size: int) -> Tensor:
        """The uniform permutation of range(size) that belongs to `row`, int64 [size] on the CPU."""
        return self.derived(f"permutation {row}")._order(size)

    def derived(self, name: str) -> Stream:
        """An independent stream, named below this one."""
        return Stream(self._seed, f"{self._name}/{name}")

    def _order(self, size: int) -> Tensor:
        high, low = self.bits(torch.arange(size), 2).unbind(1)
        return torch.argsort((high << 31) ^ low, stable=True)


class DataOrder:
    """The order of `size` images in an endless stream: a new permutation every epoch."""

    def __init__(self, seed: int, size: int):
        self._size = size
        self._epoch_order = lru_cache(maxsize=2)(lambda epoch: Stream(seed, "data order").permutation(epoch, size))

    def at(self, positions: Tensor) -> Tensor:
        """The image indices at global `positions`, both int64 [n] on the CPU."""
        epochs = positions // self._size
        indexes = torch.empty_like(positions)
        for epoch in epochs.unique().tolist():
            here = epochs == epoch
            indexes[here] = self._epoch_order(epoch)[positions[here] % self._size]
        return indexes
