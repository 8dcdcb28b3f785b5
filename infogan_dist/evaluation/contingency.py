"""The contingency table of two classifications, which matching, purity and the factor scores are computed from."""

from __future__ import annotations

import torch
from torch import Tensor


def contingency(rows: Tensor, columns: Tensor, widths: tuple[int, int] | None = None) -> Tensor:
    """Counts of each pair of classes in `rows` and `columns`, int64 [N] each. Returns int64 `widths`, by default the numbers of classes."""
    height, width = widths or (int(rows.max()) + 1, int(columns.max()) + 1)
    return torch.bincount(rows * width + columns, minlength=height * width).view(height, width)
