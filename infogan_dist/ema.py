"""The averaged generator: an exponential moving average of G measured in images, not in steps."""

from __future__ import annotations

import torch
from torch import nn

RAMP = 0.05  # the half-life is at most this share of the images seen (Karras et al. 2020, stylegan2-ada)


def ema_decay(half_life_images: int, images_seen: int, batch: int) -> float:
    """What the average keeps of itself over one step that ends at `images_seen`; 0 where the average is off."""
    half_life = min(half_life_images, RAMP * images_seen)
    return float(0.5 ** (batch / half_life)) if half_life > 0 else 0.0


@torch.no_grad()
def average(G_ema: nn.Module, G: nn.Module, decay: float) -> None:
    """Move G_ema's weights towards G's and copy its buffers (running statistics)."""
    pairs = list(zip(G_ema.parameters(), G.parameters(), strict=True))
    torch._foreach_lerp_([a for a, _ in pairs], [b.detach() for _, b in pairs], 1 - decay)
    for ours, theirs in zip(G_ema.buffers(), G.buffers(), strict=True):
        ours.copy_(theirs)
