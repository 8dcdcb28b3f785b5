"""The units of work: two modules, each called once per update, so that a wrapper reduces each exactly once.

Where the information term trains the trunk, Q belongs to the discriminator's side; where it trains the heads, to the generator's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from infogan_dist.config.model import ObjectiveConfig
from infogan_dist.losses import squared_slopes
from infogan_dist.networks import Networks
from infogan_dist.networks.batch_norm import separate_batch_statistics


class DiscriminatorOutput(NamedTuple):
    """Logits [B, 1] of reals and fakes; Q's outputs [B, posterior_dim], where this side owns Q, on the fakes, on their views and on
    reals and their partners, where there are any; D's squared slopes [B] at reals and fakes where they are penalised."""

    real_logits: Tensor
    fake_logits: Tensor
    fake_posterior: Tensor | None
    view_posterior: Tensor | None
    real_posterior: Tensor | None
    partner_posterior: Tensor | None
    real_slopes: Tensor | None
    fake_slopes: Tensor | None


class GeneratorOutput(NamedTuple):
    """Logits [B, 1] of G's images, and of reals where they are compared; Q's output [B, posterior_dim] on G's images, and on
    their views where there are any."""

    fake_logits: Tensor
    real_logits: Tensor | None
    fake_posterior: Tensor
    view_posterior: Tensor | None


class DiscriminatorSide(nn.Module):
    """FE and D (and Q, where it learns here). D judges reals and fakes; Q reads the fakes, and `views` of them and the reals with
    their `partners`, where there are any. Each of these is normalised by itself, by one set of weights."""

    def __init__(self, FE: nn.Module, D: nn.Module, Q: nn.Module | None, objective: ObjectiveConfig):
        super().__init__()
        self.FE, self.D, self.Q = FE, D, Q
        self._penalises_reals, self._penalises_fakes = objective.r1_gamma > 0, objective.r2_gamma > 0

    def forward(
        self, reals: Tensor, fakes: Tensor, views: Tensor | None = None, partners: Tensor | None = None
    ) -> DiscriminatorOutput:
        others = [images for images in (views, partners) if images is not None]
        real_slopes = fake_slopes = None
        if self._penalises_reals or self._penalises_fakes:
            with parametrize.cached():  # a spectral norm iterates once, not once for each of its passes
                real_features, real_logits, real_slopes = self._judge(reals, self._penalises_reals)
                fake_features, fake_logits, fake_slopes = self._judge(fakes, self._penalises_fakes)
                rest = _apart(self.FE, others) if others else []
        else:  # one pass over all is faster
            real_features, fake_features, *rest = _apart(self.FE, [reals, fakes, *others])
            real_logits, fake_logits = _apart(self.D, [real_features, fake_features])
        read = {"fake": fake_features}
        if views is not None:
            read["view"] = rest[0]
        if partners is not None:
            read |= {"real": real_features, "partner": rest[-1]}
        posteriors = {} if self.Q is None else dict(zip(read, _apart(self.Q, list(read.values())), strict=True))
        return DiscriminatorOutput(
            *(real_logits, fake_logits, posteriors.get("fake"), posteriors.get("view")),
            *(posteriors.get("real"), posteriors.get("partner"), real_slopes, fake_slopes),
        )

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

    Called with G's images rather than their latents: the D step judges the same ones, so that G draws once. Q also reads `views`
    of them, where there are any; D also judges `reals`, where fakes are compared with them.
    """

    def __init__(self, G: nn.Module, FE: nn.Module, D: nn.Module, Q: nn.Module):
        super().__init__()
        self.G, self.FE, self.D, self.Q = G, FE, D, Q

    def forward(self, fakes: Tensor, views: Tensor | None = None, reals: Tensor | None = None) -> GeneratorOutput:
        others = [images for images in (views, reals) if images is not None]
        fake_features, *rest = _apart(self.FE, [fakes, *others])
        judged = [fake_features] if reals is None else [fake_features, rest[-1]]
        fake_logits, real_logits = [*_apart(self.D, judged), None][:2]
        read = [fake_features] if views is None else [fake_features, rest[0]]
        fake_posterior, view_posterior = [*_apart(self.Q, read), None][:2]
        return GeneratorOutput(fake_logits, real_logits, fake_posterior, view_posterior)


def _apart(network: nn.Module, batches: list[Tensor]) -> list[Any]:
    """The network's output for each of several batches of one size, in one pass, each normalised by itself."""
    if len(batches) == 1:
        return [network(batches[0])]
    with separate_batch_statistics(network, len(batches)):
        return list(network(torch.cat(batches)).chunk(len(batches)))


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
