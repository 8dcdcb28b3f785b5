"""Optimizer steps that are skipped on the device, so that the host does not wait."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor
from torch.optim import Optimizer


def masked(optimizer: Optimizer, skip: Tensor) -> Optimizer:
    """Make the next step of `optimizer` change nothing if `skip`, [] on the device, is 1. torch's fused Adam has this for loss scalers.
    Returns `optimizer`."""
    cast(Any, optimizer).found_inf = skip
    return optimizer
