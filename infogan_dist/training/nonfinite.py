"""Skips non-finite updates on the device, without waiting for it and without communication.

Reduced gradients have the same bits on every rank, so every rank skips the same updates.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def poison_nonfinite(loss: Tensor) -> Tensor:
    """`loss` if it is finite, else NaN with gradients of NaN, so that the reduced gradients are NaN on every rank."""
    return loss * torch.where(loss.detach().isfinite(), 1.0, torch.nan)


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The joint 2-norm of all gradients, []. It is not finite if one of them is not."""
    return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


class Statistics:
    """A copy of the running statistics and spectral vectors of networks, made before an update."""

    def __init__(self, networks: Iterable[nn.Module]):
        self._buffers = [buffer for network in networks for buffer in network.buffers()]
        self._copies = [buffer.clone() for buffer in self._buffers]

    @torch.no_grad()
    def restore_unless(self, finite: Tensor) -> None:
        """Restore the copy unless `finite`, bool []. Does not wait for the device."""
        for buffer, copy in zip(self._buffers, self._copies, strict=True):
            buffer.copy_(torch.where(finite, buffer, copy))
