"""Spectral norm with initial vectors from the run's seed (Miyato et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from infogan_dist.randomness import Stream


class SpectralNorm(nn.Module):
    """A parametrization that divides a weight by its largest singular value σ (Miyato et al. 2018, Algorithm 1).

    `u` approximates the left singular vector, by one power iteration per pass in training. Unlike torch's own it is computed in the
    weight's precision under autocast, and it does not depend on the global random generator.
    """

    u: Tensor

    def __init__(self, u: Tensor):
        super().__init__()
        self.register_buffer("u", F.normalize(u, dim=0))
        self.tracks_statistics = True

    def forward(self, weight: Tensor) -> Tensor:
        if weight.is_meta:  # autocast does not support the meta device
            return weight
        with torch.autocast(weight.device.type, enabled=False):
            if self.training and self.tracks_statistics:
                self.iterate(weight)
            largest: Tensor = (weight.flatten(1).mT @ self.u.clone()).norm()  # σ = |Wᵀu|
            return weight / largest

    @torch.no_grad()
    def iterate(self, weight: Tensor) -> None:
        matrix = weight.flatten(1)
        self.u.copy_(F.normalize(matrix @ F.normalize(matrix.mT @ self.u, dim=0), dim=0))


FIRST_ITERATIONS = 15  # before the first step, as torch's spectral_norm does


def normalise_spectrally(network: nn.Module, stream: Stream) -> None:
    """Add a spectral norm to every convolution and linear layer of `network`, with initial vectors from `stream`."""
    for path, module in list(network.named_modules()):
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            start = stream.derived(path).normal(torch.arange(1), len(module.weight))[0]
            spectral = SpectralNorm(start.to(module.weight))
            for _ in range(FIRST_ITERATIONS):
                spectral.iterate(module.weight)
            parametrize.register_parametrization(module, "weight", spectral)
