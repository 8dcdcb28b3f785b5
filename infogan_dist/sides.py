"""The units of work: two modules, each called once per update, so that a wrapper reduces each exactly once.

Where the information term trains the trunk, Q belongs to the discriminator's side; where it trains the heads, to the generator's.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from infogan_dist.config import ObjectiveConfig
from infogan_dist.networks import Networks


class DiscriminatorOutput(NamedTuple):
    """Logits [B, 1] of reals and fakes; Q's output on the fakes [B, posterior_dim] where this side owns Q."""

    real_logits: Tensor
    fake_logits: Tensor
    fake_posterior: Tensor | None


class GeneratorOutput(NamedTuple):
    """Logits [B, 1] and Q's output [B, posterior_dim] on G's images."""

    fake_logits: Tensor
    fake_posterior: Tensor


class DiscriminatorSide(nn.Module):
    """FE and D (and Q, where it learns here). Reals and fakes are normalised separately."""

    def __init__(self, FE: nn.Module, D: nn.Module, Q: nn.Module | None):
        super().__init__()
        self.FE, self.D, self.Q = FE, D, Q

    def forward(self, reals: Tensor, fakes: Tensor) -> DiscriminatorOutput:
        real_features, fake_features = self.FE(reals), self.FE(fakes)
        posterior = self.Q(fake_features) if self.Q is not None else None
        return DiscriminatorOutput(self.D(real_features), self.D(fake_features), posterior)


class GeneratorSide(nn.Module):
    """G, followed by FE, D and Q on its images. What G's optimizer does not own is frozen during its step."""

    def __init__(self, G: nn.Module, FE: nn.Module, D: nn.Module, Q: nn.Module):
        super().__init__()
        self.G, self.FE, self.D, self.Q = G, FE, D, Q

    def forward(self, latent: Tensor) -> GeneratorOutput:
        features = self.FE(self.G(latent))
        return GeneratorOutput(self.D(features), self.Q(features))


def owned_networks(networks: Networks, objective: ObjectiveConfig) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
    """The networks that D's and G's optimizer train, by name: FE + D and G, and Q with one of them."""
    discriminator, generator = {"FE": networks.FE, "D": networks.D}, {"G": networks.G}
    owner = discriminator if objective.information_trains == "trunk" else generator
    owner["Q"] = networks.Q
    return discriminator, generator


def build_sides(networks: Networks, objective: ObjectiveConfig) -> tuple[DiscriminatorSide, GeneratorSide]:
    discriminator, _ = owned_networks(networks, objective)
    return (
        DiscriminatorSide(networks.FE, networks.D, discriminator.get("Q")),
        GeneratorSide(networks.G, networks.FE, networks.D, networks.Q),
    )
