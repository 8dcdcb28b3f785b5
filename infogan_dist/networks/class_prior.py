"""The learned prior p(c) of each categorical code: buffers of G, from whose distribution G's classes are drawn.

As buffers of G they are in every checkpoint and exported file, are copied to the averaged G, and are restored with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from infogan_dist.config.model import LatentsConfig
from infogan_dist.latents import LatentSpec

PREFIX = "class_prior_"  # of the buffers' names
SMALLEST_SHARE = 0.1  # of 1/K: a class that is never drawn could not come back


def add_class_priors(G: nn.Module, spec: LatentSpec) -> None:
    """Register the priors of `spec`, [K] each, as buffers of G on the current default device; nothing if they are not learned."""
    for number, prior in enumerate(spec.priors):
        G.register_buffer(f"{PREFIX}{number}", torch.tensor(prior))


def class_priors(G: nn.Module) -> list[Tensor]:
    """G's learned priors, [K] each, by categorical code. Empty if classes are uniform."""
    return [buffer for name, buffer in G.named_buffers(recurse=False) if name.startswith(PREFIX)]


def spec_of(latents: LatentsConfig, G: nn.Module) -> LatentSpec:
    """The spec of a trained G: with the priors that it has learned, if any. Waits for the device."""
    return LatentSpec.from_config(latents).with_priors(class_priors(G))


@torch.no_grad()
def move_class_priors(priors: Sequence[Tensor], shares: Sequence[Tensor], rate: Tensor, finite: Tensor) -> None:
    """p <- p + rate · (share - p) in place, with `shares` [K] of the classes among the reals and `rate` [] in [0, 1].

    No class gets less than about SMALLEST_SHARE / K. Nothing changes unless `finite`, bool []. Q is trained under p, so this is a
    stochastic form of the EM estimate of class frequencies (Saerens et al. 2002, Eq. 2.2).
    """
    for prior, share in zip(priors, shares, strict=True):
        moved = torch.lerp(prior, share.to(prior), rate.to(prior)).clamp_min(SMALLEST_SHARE / len(prior))
        moved = moved / moved.sum()
        prior.copy_(torch.where(finite & moved.isfinite().all(), moved, prior))
