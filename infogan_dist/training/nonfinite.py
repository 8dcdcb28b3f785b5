"""Updates that are not finite are masked on the device. Nothing here waits for the device or reduces anything.

Reduced gradients have the same bits on every rank, so that every rank masks the same updates.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def poison_nonfinite(loss: Tensor) -> Tensor:
    """`loss`; where it is not finite, NaN with a gradient of NaN, so that the reduced gradients are NaN on every rank."""
    return loss * torch.where(loss.detach().isfinite(), 1.0, torch.nan)


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The joint 2-norm of all gradients, []; not finite where one of them is not."""
    return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


class Statistics:
    """A copy of the running statistics and spectral vectors of some networks, from before an update."""

    def __init__(self, networks: Iterable[nn.Module]):
        self._moving = [buffer for network in networks for buffer in network.buffers()]
        self._now = [buffer.clone() for buffer in self._moving]

    @torch.no_grad()
    def put_back_unless(self, good: Tensor) -> None:
        """Undo what has moved since, unless `good`, bool []. Does not wait for the device."""
        for moving, then in zip(self._moving, self._now, strict=True):
            moving.copy_(torch.where(good, moving, then))
