"""The averaged generator G_ema: an exponential moving average of G with a half-life in images, not steps."""

from __future__ import annotations

import torch
from torch import Tensor

from infogan_dist.config.running import TrainConfig
from infogan_dist.networks import Networks

RAMP = 0.05  # the half-life is at most this share of the images seen (Karras et al. 2020, stylegan2-ada)


@torch.no_grad()
def update_average(networks: Networks, train: TrainConfig, step: int, grad_norm_G: Tensor) -> None:
    """Move G_ema's weights towards G's after `step`, and copy G's buffers (running statistics). The weights do not move if G's update
    was skipped, that is if `grad_norm_G` [] is not finite. Does not wait for the device."""
    keep = ema_decay(train.ema_half_life_images, step * train.global_batch, train.global_batch)
    ours, theirs = ([p.detach() for p in network.parameters()] for network in (networks.G_ema, networks.G))
    moves = torch.full_like(grad_norm_G, 1 - keep, dtype=ours[0].dtype) * grad_norm_G.isfinite()
    torch._foreach_lerp_(ours, theirs, weights=[moves.expand_as(each) for each in ours])
    for average, newest in zip(networks.G_ema.buffers(), networks.G.buffers(), strict=True):
        average.copy_(newest)


def ema_decay(half_life_images: int, images_seen: int, batch: int) -> float:
    """The decay factor of the average in the step that ends at `images_seen`; 0 if the average is off."""
    half_life = min(half_life_images, RAMP * images_seen)
    return float(0.5 ** (batch / half_life)) if half_life > 0 else 0.0
