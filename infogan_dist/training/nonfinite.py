"""Whether an update is sound, judged and masked on the device: nothing here waits for it or reduces anything.

Reduced gradients have the same bits on every rank, so that each rank comes to the same answer by itself.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def telling(loss: Tensor) -> Tensor:
    """`loss`; where it is not finite, NaN with a gradient of NaN, which tells every rank of it in the reduced gradients."""
    return loss * torch.where(loss.detach().isfinite(), 1.0, torch.nan)


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The joint 2-norm of all gradients, []: not finite where one of them is not."""
    return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


class Statistics:
    """What an update moves beside weights, as it is now: the running statistics and spectral vectors of some networks."""

    def __init__(self, networks: Iterable[nn.Module]):
        self._moving = [buffer for network in networks for buffer in network.buffers()]
        self._now = [buffer.clone() for buffer in self._moving]

    @torch.no_grad()
    def put_back_unless(self, good: Tensor) -> None:
        """Undo what has moved since, unless `good`, bool []. Does not wait for the device."""
        for moving, then in zip(self._moving, self._now, strict=True):
            moving.copy_(torch.where(good, moving, then))
