"""Images drawn or read in batches of one size."""

from __future__ import annotations

import torch
from torch import Tensor

BATCH = 64  # images at once


def batches_of(count: int) -> list[Tensor]:
    """The indexes below `count` in batches of one size, int64 [BATCH] each, the last filled up from the first indexes.

    An image drawn in the same batch has the same bits, whichever process draws that batch.
    """
    starts = torch.arange(0, count, BATCH)
    return list((starts[:, None] + torch.arange(BATCH)) % count)
