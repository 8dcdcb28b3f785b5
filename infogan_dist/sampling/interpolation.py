"""Maps noise of any distribution to standard normal numbers, and makes paths between the noise of several seeds."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from infogan_dist.latents import LatentSpec

EDGE = 1 - 2.0**-24  # the largest uniform number whose normal quantile is taken: that of 1 is infinite


def to_normal(noise: Tensor, spec: LatentSpec) -> Tensor:
    """Noise [B, noise_dim] as numbers that are N(0, 1) where it is drawn as in training: the normal quantiles of uniform noise."""
    return _by_source(noise, spec, lambda uniform: torch.special.ndtri((uniform.clamp(-EDGE, EDGE) + 1) / 2))


def from_normal(normal: Tensor, spec: LatentSpec) -> Tensor:
    """The noise [B, noise_dim] of such numbers. Differentiable."""
    return _by_source(normal, spec, lambda numbers: 2 * torch.special.ndtr(numbers) - 1)


def noise_path(noises: Tensor, frames: int, spec: LatentSpec) -> Tensor:
    """`frames` noises [frames, noise_dim] from the first to the last of `noises` [n, noise_dim], by each of them, at even steps.

    Between independent N(0, 1) numbers a and b it is cos(t π/2) a + sin(t π/2) b, which is N(0, 1) for every t. A straight line
    would pass near the middle of the distribution, where training drew next to nothing.
    """
    normal = to_normal(noises.double(), spec)
    place = torch.linspace(0, len(noises) - 1, frames, dtype=torch.float64)
    start = place.long().clamp(max=len(noises) - 2)
    angle = ((place - start) * math.pi / 2)[:, None]
    between = angle.cos() * normal[start] + angle.sin() * normal[start + 1]
    path = from_normal(between, spec).to(noises)
    exact = (place == place.round())[:, None]  # the seeds' own noise, without rounding
    return torch.where(exact, noises[place.round().long()], path)


def _by_source(noise: Tensor, spec: LatentSpec, of_uniform: Callable[[Tensor], Tensor]) -> Tensor:
    """Each source of the noise, changed where it is uniform."""
    parts = noise.split([source.dim for source in spec.noise], dim=1)
    sources = zip(parts, spec.noise, strict=True)
    return torch.cat(
        [of_uniform(part) if source.distribution == "uniform" else part for part, source in sources], dim=1
    )
