"""Checks that tensors have the same bits on all ranks, by comparing checksums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby

import torch
from torch import Tensor

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by element size in bytes

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # 2^64 / golden ratio (Knuth's multiplicative hash), wrapped to int64


def checksums(tensors: Mapping[str, Tensor]) -> Tensor:
    """A checksum of the bits of each tensor, int64 [len(tensors)], on the tensors' device. Does not wait for the device.

    The sum modulo 2^64 of the elements' bits, each multiplied by an odd hash of its position. A change of one element always changes
    it, any other change with probability 1 - 2^-63.
    """
    return torch.stack([_checksum(tensor.detach()) for tensor in tensors.values()])


def _checksum(tensor: Tensor) -> Tensor:
    bits = tensor.contiguous().view(-1).view(_BITS[tensor.element_size()]).long()
    position = torch.arange(len(bits), device=bits.device) * _GOLDEN
    return (bits * (position ^ (position >> 32) | 1)).sum()


def format_ranks(ranks: Sequence[int], processes: int) -> str:
    """Ranks in ascending order for a message: `rank 3`, `ranks 0 to 3, 6`, `all 8 ranks`; `this process` if there is one process."""
    if len(ranks) == processes:
        return f"all {processes} ranks" if processes > 1 else "this process"
    runs = [[rank for _, rank in run] for _, run in groupby(enumerate(ranks), lambda pair: pair[1] - pair[0])]
    spans = [f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(spans)}"


def first_difference(names: Sequence[str], by_rank: Tensor) -> str | None:
    """Which ranks differ in which tensor, for a message, from `by_rank`, int64 [ranks, len(names)]; None if all agree.

    The reference is the largest group of ranks that agree. If two groups are equally large, it is the one that contains rank 0.
    """
    unequal = (by_rank != by_rank[0]).any(0).nonzero().flatten().tolist()
    if not unequal:
        return None
    values = by_rank[:, unequal[0]].tolist()
    (majority, _), *_ = Counter(values).most_common(1)  # in a tie the first one
    ranks = [rank for rank, value in enumerate(values) if value != majority]
    differ = "differ" if len(ranks) > 1 else "differs"
    where = f"{names[unequal[0]]}, the first of {len(unequal)}"
    return f"{format_ranks(ranks, len(values))} of {len(values)} {differ} from rank {values.index(majority)} in {where}"
