"""Measurements of a logged step in addition to its losses: extra forward passes that do not change the state."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from infogan_dist.latents import Latents, LatentSpec
from infogan_dist.losses import CodePosterior
from infogan_dist.networks.class_prior import class_priors
from infogan_dist.networks.freeze import frozen
from infogan_dist.randomness import Stream
from infogan_dist.training.step import MicroBatch, fake_score
from infogan_dist.training.train_state import TrainState

PER_CLASS = 10  # images per class for `health/diversity`


class Probe:
    """Measures the state after a step. Every rank makes one. Its metrics may be averaged over the ranks."""

    def __init__(self, state: TrainState, seed: int):
        self._state = state
        self._latents = state.spec.vector(latents_by_class(state.spec, Stream(seed, "diversity"))).to(
            next(state.networks.G_ema.parameters())
        )

    def __call__(self, micro_batches: Sequence[MicroBatch]) -> dict[str, Tensor]:
        """D's score of the fakes after G's update, the diversity of G_ema's images, Q's use of each class on the reals, and the class
        priors if they are learned."""
        measured = {"health/diversity": self.diversity()} | self.usage(micro_batches) | self.priors()
        return fake_score(self._state, micro_batches) | measured

    @torch.no_grad()
    def diversity(self) -> Tensor:
        """The standard deviation of a pixel of G_ema's images, in [-1, 1], over z and the other codes within a class of categorical_0,
        averaged over pixels and classes. Near 0, all images of a class are the same."""
        images = self._state.networks.G_ema(self._latents).double()
        deviation: Tensor = images.unflatten(0, (-1, PER_CLASS)).std(1).mean()
        return deviation

    @torch.no_grad()
    def usage(self, micro_batches: Sequence[MicroBatch]) -> dict[str, Tensor]:
        """Q's mean probability of each class on the reals, such as `usage/categorical_0/7`."""
        networks, spec = self._state.networks, self._state.spec
        shares: dict[str, list[Tensor]] = {}
        with frozen(networks.FE, networks.Q), self._state.engine.autocast():
            for batch in micro_batches:
                output = networks.Q.forward(networks.FE.forward(batch.reals))  # `forward` is not compiled
                posterior = CodePosterior.from_output(output, spec, self._state.objective)
                for name, logits in zip(spec.categorical_names, posterior.logits, strict=True):
                    for number, share in enumerate(logits.softmax(1).mean(0)):
                        shares.setdefault(f"usage/{name}/{number}", []).append(share)
        return {key: torch.stack(values).mean() for key, values in shares.items()}

    def priors(self) -> dict[str, Tensor]:
        """The learned p(c) of each class, such as `prior/categorical_0/7`. Empty if classes are uniform."""
        named = zip(self._state.spec.categorical_names, class_priors(self._state.networks.G), strict=False)
        return {f"prior/{name}/{number}": share for name, prior in named for number, share in enumerate(prior.clone())}


def latents_by_class(spec: LatentSpec, stream: Stream) -> Latents:
    """`PER_CLASS` fixed latents for each class of categorical_0, the same ones in every class. Without a categorical code, `PER_CLASS`
    latents."""
    rows = spec.categorical[0] if spec.categorical else 1
    drawn = spec.draw(stream, torch.arange(PER_CLASS).repeat(rows))
    classes = {spec.categorical_names[0]: torch.arange(rows).repeat_interleave(PER_CLASS)} if spec.categorical else {}
    return Latents(drawn.noise, spec.with_values(drawn.codes, classes))


def derived(numbers: dict[str, float], spec: LatentSpec) -> dict[str, float]:
    """Metrics computed from metrics that are averaged over all ranks: `health/score_gap`, D(x) - D(G(z, c)), and for each categorical
    code `health/usage_entropy/<code>`, the entropy of Q's mean prediction on reals in nats. It is ln K if all classes are used equally,
    and needs no labels. `health/prior_entropy/<code>` is H(c) of a learned prior, the ceiling of L_I."""
    found = {"health/score_gap": numbers["score/real"] - numbers["score/fake_before_G"]}
    for name, width in zip(spec.categorical_names, spec.categorical, strict=True):
        for kind in ("usage", "prior"):
            shares = [numbers.get(f"{kind}/{name}/{number}", 0.0) for number in range(width)]
            if any(shares):
                found[f"health/{kind}_entropy/{name}"] = -sum(share * math.log(share) for share in shares if share > 0)
    return found
