"""Whether all ranks hold the same bits: a checksum of every tensor, compared over the ranks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby

import torch
from torch import Tensor

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes of an element

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # 2^64 / golden ratio, as Knuth's multiplicative hash, wrapped to int64


def checksums(tensors: Mapping[str, Tensor]) -> Tensor:
    """One number for the bits of each tensor, int64 [len(tensors)], on the tensors' device: no host synchronisation.

    A sum of the elements' bits, each times an odd number hashed from its place, modulo 2^64: a change of one element always
    changes it, any other but for a chance of about 2^-63.
    """
    return torch.stack([_checksum(tensor.detach()) for tensor in tensors.values()])


def _checksum(tensor: Tensor) -> Tensor:
    bits = tensor.contiguous().view(-1).view(_BITS[tensor.element_size()]).long()
    place = torch.arange(len(bits), device=bits.device) * _GOLDEN
    return (bits * (place ^ (place >> 32) | 1)).sum()


def in_words(ranks: Sequence[int], of: int) -> str:
    """Who these ranks are, given in ascending order: `rank 3`, `ranks 0 to 3, 6`, `all 8 ranks`; `this process` of one."""
    if len(ranks) == of:
        return f"all {of} ranks" if of > 1 else "this process"
    rows = [
        [rank for _, rank in row] for _, row in groupby(enumerate(ranks), lambda numbered: numbered[1] - numbered[0])
    ]
    spans = [f"{row[0]} to {row[-1]}" if len(row) > 2 else ", ".join(map(str, row)) for row in rows]
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(spans)}"


def first_difference(names: Sequence[str], by_rank: Tensor) -> str | None:
    """Who differs in what, in words, from `by_rank`, int64 [ranks, len(names)]; None where all agree.

    The ranks that differ are those outside the largest group that agrees; of equal groups the one with rank 0 counts.
    """
    unequal = (by_rank != by_rank[0]).any(0).nonzero().flatten().tolist()
    if not unequal:
        return None
    values = by_rank[:, unequal[0]].tolist()
    (usual, _), *_ = Counter(values).most_common(1)  # the first seen of equally common ones
    ranks = [rank for rank, value in enumerate(values) if value != usual]
    differ = "differ" if len(ranks) > 1 else "differs"
    where = f"{names[unequal[0]]}, the first of {len(unequal)}"
    return f"{in_words(ranks, len(values))} of {len(values)} {differ} from rank {values.index(usual)} in {where}"
