"""The units of work: two modules, each called once per update, so that a wrapper reduces each exactly once.

Where the information term trains the trunk, Q belongs to the discriminator's side; where it trains the heads, to the generator's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from infogan_dist.config import ObjectiveConfig
from infogan_dist.networks import Networks
from infogan_dist.networks.layers import batches_apart
from infogan_dist.objectives import squared_slopes


class DiscriminatorOutput(NamedTuple):
    """Logits [B, 1] of reals and fakes; Q's output on the fakes [B, posterior_dim] where this side owns Q; D's squared
    slopes [B] at the reals and at the fakes where they are penalised."""

    real_logits: Tensor
    fake_logits: Tensor
    fake_posterior: Tensor | None
    real_slopes: Tensor | None
    fake_slopes: Tensor | None


class GeneratorOutput(NamedTuple):
    """Logits [B, 1] and Q's output [B, posterior_dim] on G's images."""

    fake_logits: Tensor
    fake_posterior: Tensor


class DiscriminatorSide(nn.Module):
    """FE and D (and Q, where it learns here). Reals and fakes are normalised separately, by one set of weights."""

    def __init__(self, FE: nn.Module, D: nn.Module, Q: nn.Module | None, objective: ObjectiveConfig):
        super().__init__()
        self.FE, self.D, self.Q = FE, D, Q
        self._penalises_reals, self._penalises_fakes = objective.r1_gamma > 0, objective.r2_gamma > 0

    def forward(self, reals: Tensor, fakes: Tensor) -> DiscriminatorOutput:
        real_slopes = fake_slopes = None
        if self._penalises_reals or self._penalises_fakes:
            with parametrize.cached():  # a spectral norm iterates once, not once for reals and once for fakes
                _, real_logits, real_slopes = self._judge(reals, self._penalises_reals)
                fake_features, fake_logits, fake_slopes = self._judge(fakes, self._penalises_fakes)
        else:  # one pass over both is faster
            with batches_apart(self, 2):
                features = self.FE(torch.cat([reals, fakes]))
                real_logits, fake_logits = self.D(features).chunk(2)
            fake_features = features.chunk(2)[1]
        posterior = self.Q(fake_features) if self.Q is not None else None
        return DiscriminatorOutput(real_logits, fake_logits, posterior, real_slopes, fake_slopes)

    def _judge(self, images: Tensor, with_slopes: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """Features, logits and, where asked, squared slopes; these in the weights' precision whatever the autocast."""
        if not with_slopes:
            features = self.FE(images)
            return features, self.D(features), None
        with torch.autocast(images.device.type, enabled=False):
            images = images.to(next(self.FE.parameters()).dtype).detach().requires_grad_()
            features = self.FE(images)
            logits = self.D(features)
            return features, logits, squared_slopes(logits, images)


class GeneratorSide(nn.Module):
    """G, and FE, D and Q on the images it drew. What G's optimizer does not own is frozen during its step.

    Called with G's images rather than their latents: the D step judges the same ones, so that G draws once.
    """

    def __init__(self, G: nn.Module, FE: nn.Module, D: nn.Module, Q: nn.Module):
        super().__init__()
        self.G, self.FE, self.D, self.Q = G, FE, D, Q

    def forward(self, fakes: Tensor) -> GeneratorOutput:
        features = self.FE(fakes)
        return GeneratorOutput(self.D(features), self.Q(features))


def owned_networks(networks: Networks, objective: ObjectiveConfig) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
    """The networks that D's and G's optimizer train, by name: FE + D and G, and Q with one of them."""
    discriminator, generator = {"FE": networks.FE, "D": networks.D}, {"G": networks.G}
    owner = discriminator if objective.information_trains == "trunk" else generator
    owner["Q"] = networks.Q
    return discriminator, generator


def without_gradient(owned: Mapping[str, nn.Module]) -> list[str]:
    """The parameters that got no gradient in their side's update, `FE.down.weight`: nothing uses them."""
    return [
        f"{network}.{name}"
        for network, module in owned.items()
        for name, parameter in module.named_parameters()
        if parameter.grad is None
    ]


def build_sides(networks: Networks, objective: ObjectiveConfig) -> tuple[DiscriminatorSide, GeneratorSide]:
    discriminator, _ = owned_networks(networks, objective)
    return (
        DiscriminatorSide(networks.FE, networks.D, discriminator.get("Q"), objective),
        GeneratorSide(networks.G, networks.FE, networks.D, networks.Q),
    )
