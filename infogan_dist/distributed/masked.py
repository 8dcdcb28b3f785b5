"""Optimizer steps that the device itself skips: no host wait."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor
from torch.optim import Optimizer


def masked(optimizer: Optimizer, skip: Tensor) -> Optimizer:
    """`optimizer`, whose next step leaves weights, moments and step counts as they are where `skip`, [] on the device, is 1:
    what torch's fused Adam does for a loss scaler."""
    cast(Any, optimizer).found_inf = skip
    return optimizer
