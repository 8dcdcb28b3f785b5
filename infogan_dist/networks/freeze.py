"""Freezes networks: gradients flow through them, but they do not change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from infogan_dist.networks.batch_norm import BatchNorm
from infogan_dist.networks.spectral_norm import SpectralNorm


@contextmanager
def frozen(*networks: nn.Module) -> Iterator[None]:
    """Within, the networks compute as in training, but their weights get no gradients, and running statistics and spectral vectors
    are not updated."""
    parameters = [p for network in networks for p in network.parameters() if p.requires_grad]
    tracking = [m for network in networks for m in network.modules() if isinstance(m, (BatchNorm, SpectralNorm))]
    norms = [module for module in tracking if module.tracks_statistics]
    try:
        for parameter in parameters:
            parameter.requires_grad_(False)
        for module in norms:
            module.tracks_statistics = False
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
        for module in norms:
            module.tracks_statistics = True
