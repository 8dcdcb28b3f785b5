"""Live health: what a logged step says beside its losses, from extra forward passes that move nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from infogan_dist.latents import Latents, LatentSpec
from infogan_dist.losses import CodePosterior
from infogan_dist.networks.freeze import frozen
from infogan_dist.randomness import Stream
from infogan_dist.training.step import MicroBatch, fake_score
from infogan_dist.training.train_state import TrainState

PER_CLASS = 10  # images that diversity is measured on


class Probe:
    """Measures a state after a step. Every rank makes one; its numbers may be averaged over the ranks."""

    def __init__(self, state: TrainState, seed: int):
        self._state = state
        self._latents = state.spec.vector(alike_by_class(state.spec, Stream(seed, "diversity"))).to(
            next(state.networks.G_ema.parameters())
        )

    def __call__(self, micro_batches: Sequence[MicroBatch]) -> dict[str, Tensor]:
        """D's score of the fakes after G's update, the diversity of fixed latents, and the use of each class on the reals."""
        measured = {"health/diversity": self.diversity()} | self.usage(micro_batches)
        return fake_score(self._state, micro_batches) | measured

    @torch.no_grad()
    def diversity(self) -> Tensor:
        """How much a pixel of G_ema's images varies within a class of categorical_0: its standard deviation over z and the other
        codes, averaged over pixels and classes; images are in [-1, 1]. Near 0, G draws each class in one way."""
        images = self._state.networks.G_ema(self._latents).double()
        deviation: Tensor = images.unflatten(0, (-1, PER_CLASS)).std(1).mean()
        return deviation

    @torch.no_grad()
    def usage(self, micro_batches: Sequence[MicroBatch]) -> dict[str, Tensor]:
        """Q's mean probability of each class of each categorical code on the reals, `usage/categorical_0/7`."""
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


def alike_by_class(spec: LatentSpec, stream: Stream) -> Latents:
    """`PER_CLASS` fixed z and c for each class of categorical_0, one class after another and all with the same; for all images
    together where there is no categorical code."""
    rows = spec.categorical[0] if spec.categorical else 1
    drawn = spec.draw(stream, torch.arange(PER_CLASS).repeat(rows))
    classes = {spec.categorical_names[0]: torch.arange(rows).repeat_interleave(PER_CLASS)} if spec.categorical else {}
    return Latents(drawn.noise, spec.with_values(drawn.codes, classes))


def derived(numbers: dict[str, float], spec: LatentSpec) -> dict[str, float]:
    """What follows from numbers averaged over all ranks: `health/score_gap`, D(x) - D(G(z, c)); and by categorical code
    `health/usage_entropy/<code>` in nats, of Q's mean prediction on reals: ln K where all classes are used alike, and less
    where one lags, which no label is needed to see."""
    found = {"health/score_gap": numbers["score/real"] - numbers["score/fake_before_G"]}
    for name, width in zip(spec.categorical_names, spec.categorical, strict=True):
        shares = [numbers.get(f"usage/{name}/{number}", 0.0) for number in range(width)]
        if any(shares):
            found[f"health/usage_entropy/{name}"] = -sum(share * math.log(share) for share in shares if share > 0)
    return found
