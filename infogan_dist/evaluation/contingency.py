"""The contingency table of two classifications: what matching, purity and the factor scores count with."""

from __future__ import annotations

import torch
from torch import Tensor


def contingency(rows: Tensor, columns: Tensor, widths: tuple[int, int] | None = None) -> Tensor:
    """How many images have each pair of classes, int64 `widths`, of int64 [N] and [N]; by default as wide as the largest class."""
    height, width = widths or (int(rows.max()) + 1, int(columns.max()) + 1)
    return torch.bincount(rows * width + columns, minlength=height * width).view(height, width)
