"""The two modules that DDP wraps. Each is called once per update, so that DDP reduces its gradients exactly once.

D's update owns Q with `objective.information_trains = trunk`, G's update with `heads`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from infogan_dist.config.objective import ObjectiveConfig
from infogan_dist.losses import squared_gradients
from infogan_dist.networks import Networks
from infogan_dist.networks.batch_norm import separate_batch_statistics
from infogan_dist.networks.checkpointing import checkpointed
from infogan_dist.networks.twice_differentiable import differentiated_twice


class DiscriminatorOutput(NamedTuple):
    """Logits [n, 1] of reals and fakes, n = B / `networks.pack`. If D's update owns Q, Q's outputs [B, posterior_dim] on fakes, augmented
    fakes, reals and positives. With a gradient penalty, D's squared gradient norms [n] at reals, at fakes and between them."""

    real_logits: Tensor
    fake_logits: Tensor
    fake_posterior: Tensor | None
    augmented_posterior: Tensor | None
    real_posterior: Tensor | None
    positive_posterior: Tensor | None
    real_gradients: Tensor | None
    fake_gradients: Tensor | None
    gradients_between: Tensor | None


class GeneratorOutput(NamedTuple):
    """Logits [n, 1] of fakes, and of reals if the loss compares with them. Q's outputs [B, posterior_dim] on fakes, and on augmented fakes
    if there are any."""

    fake_logits: Tensor
    real_logits: Tensor | None
    fake_posterior: Tensor
    augmented_posterior: Tensor | None


class DiscriminatorModule(nn.Module):
    """FE and D, and Q if D's update owns it. D gets reals and fakes, or `for_D` in their place. Q gets fakes, `augmented` fakes, and reals
    with their `positives`, or reals alone with `classes_of_reals`. Each batch has separate batch statistics. With a gradient penalty
    between D's reals and fakes, `mix` [B] in [0, 1] is the share of the real at each point. `checkpointing` is gradient checkpointing of
    FE, without a gradient penalty."""

    def __init__(
        self, FE: nn.Module, D: nn.Module, Q: nn.Module | None, objective: ObjectiveConfig, checkpointing: bool = False
    ):
        super().__init__()
        self.FE, self.D, self.Q = FE, D, Q
        self.checkpointing = checkpointing
        self._penalises_reals, self._penalises_fakes = objective.r1_gamma > 0, objective.r2_gamma > 0
        self._penalises_between = objective.lambda_gradient_penalty > 0

    def forward(
        self,
        reals: Tensor,
        fakes: Tensor,
        augmented: Tensor | None = None,
        positives: Tensor | None = None,
        mix: Tensor | None = None,
        classes_of_reals: bool = False,
        for_D: tuple[Tensor, Tensor] | None = None,
    ) -> DiscriminatorOutput:
        for_Q = {"fake": fakes}  # FE's statistics include them even if Q is trained in the G step
        for_Q |= {"augmented": augmented} if augmented is not None else {}
        for_Q |= {"real": reals} if positives is not None or classes_of_reals else {}
        for_Q |= {"positive": positives} if positives is not None else {}
        shared = ("fake", "real") if for_D is None else ()
        others = [images for name, images in for_Q.items() if name not in shared]
        reals, fakes = for_D or (reals, fakes)
        real_gradients = fake_gradients = gradients_between = None
        if self._penalises_reals or self._penalises_fakes or self._penalises_between:
            with parametrize.cached():  # one power iteration of a spectral norm, not one per pass
                real_features, real_logits, real_gradients = self._score(reals, self._penalises_reals)
                fake_features, fake_logits, fake_gradients = self._score(fakes, self._penalises_fakes)
                if self._penalises_between:
                    assert mix is not None
                    between = torch.lerp(fakes.to(reals.dtype), reals, mix.to(reals.dtype).view(-1, 1, 1, 1))
                    gradients_between = self._score(between, with_gradients=True)[2]
                rest = _each_normalised(self.FE, others) if others else []
        else:  # one pass over all is faster
            batches = [reals, fakes, *others]
            real_features, fake_features, *rest = _each_normalised(self.FE, batches, self.checkpointing)
            real_logits, fake_logits = _each_normalised(self.D, [real_features, fake_features])
        posteriors = {}
        if self.Q is not None:
            features, unshared = {"fake": fake_features, "real": real_features}, iter(rest)
            of_Q = [features[name] if name in shared else next(unshared) for name in for_Q]
            posteriors = dict(zip(for_Q, _each_normalised(self.Q, of_Q), strict=True))
        return DiscriminatorOutput(
            *(real_logits, fake_logits, posteriors.get("fake"), posteriors.get("augmented")),
            *(posteriors.get("real"), posteriors.get("positive")),
            *(real_gradients, fake_gradients, gradients_between),
        )

    def _score(self, images: Tensor, with_gradients: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """Features, logits and, `with_gradients`, D's squared gradient norms, for which autocast is disabled."""
        if not with_gradients:
            features = self.FE(images)
            return features, self.D(features), None
        with torch.autocast(images.device.type, enabled=False), differentiated_twice(self.FE):
            images = images.to(next(self.FE.parameters()).dtype).detach().requires_grad_()
            features = self.FE(images)
            logits = self.D(features)
            return features, logits, squared_gradients(logits, images)


class GeneratorModule(nn.Module):
    """G, and FE, D and Q on G's images. Networks that G's optimizer does not own are frozen during its step.

    Its input are G's images instead of latents, because the D step uses the same images. Q also gets `augmented` fakes if there are
    any, and D also gets `reals` if the loss compares with them. D gets the fakes `for_D` in place of `fakes` if there are any.
    `checkpointing` is gradient checkpointing of FE.
    """

    def __init__(self, G: nn.Module, FE: nn.Module, D: nn.Module, Q: nn.Module, checkpointing: bool = False):
        super().__init__()
        self.G, self.FE, self.D, self.Q = G, FE, D, Q
        self.checkpointing = checkpointing

    def forward(
        self,
        fakes: Tensor,
        augmented: Tensor | None = None,
        reals: Tensor | None = None,
        for_D: Tensor | None = None,
    ) -> GeneratorOutput:
        others = [images for images in (augmented, reals, for_D) if images is not None]
        fake_features, *rest = _each_normalised(self.FE, [fakes, *others], self.checkpointing)
        scored = [fake_features if for_D is None else rest.pop()]
        scored += [rest.pop()] if reals is not None else []
        fake_logits, real_logits = [*_each_normalised(self.D, scored), None][:2]
        for_Q = [fake_features, *rest]
        fake_posterior, augmented_posterior = [*_each_normalised(self.Q, for_Q), None][:2]
        return GeneratorOutput(fake_logits, real_logits, fake_posterior, augmented_posterior)


def _each_normalised(network: nn.Module, batches: list[Tensor], checkpointing: bool = False) -> list[Any]:
    """The network's output for each of several batches of one size, in one pass with separate batch statistics."""
    run = partial(checkpointed, network) if checkpointing else network
    if len(batches) == 1:
        return [run(batches[0])]
    with separate_batch_statistics(network, len(batches)):
        return list(run(torch.cat(batches)).chunk(len(batches)))


def owned_networks(networks: Networks, objective: ObjectiveConfig) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
    """The networks that D's optimizer trains (FE, D) and those that G's trains (G), by name. Q is in one of the two."""
    discriminator, generator = {"FE": networks.FE, "D": networks.D}, {"G": networks.G}
    owner = discriminator if objective.information_trains == "trunk" else generator
    owner["Q"] = networks.Q
    return discriminator, generator


def without_gradient(owned: Mapping[str, nn.Module]) -> list[str]:
    """The parameters without a gradient after their update, such as `FE.down.weight`. They are unused."""
    return [
        f"{network}.{name}"
        for network, module in owned.items()
        for name, parameter in module.named_parameters()
        if parameter.grad is None
    ]


def build_modules(
    networks: Networks, owned_by_D: Mapping[str, nn.Module], objective: ObjectiveConfig, checkpointing: bool = False
) -> tuple[DiscriminatorModule, GeneratorModule]:
    return (
        DiscriminatorModule(networks.FE, networks.D, owned_by_D.get("Q"), objective, checkpointing),
        GeneratorModule(networks.G, networks.FE, networks.D, networks.Q, checkpointing),
    )
