"""Live health: what a logged step says beside its losses, from extra forward passes that move nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from infogan_dist.latents import LatentSpec
from infogan_dist.networks.layers import untouched
from infogan_dist.objectives import CodePosterior
from infogan_dist.sampling import fixed_grids
from infogan_dist.steps import Game, MicroBatch, fake_score


class Probe:
    """Measures a game after a step. Every rank makes one; its numbers may be averaged over the ranks."""

    def __init__(self, game: Game, seed: int):
        self._game = game
        grid = fixed_grids(game.spec, seed)[""]
        weight = next(game.networks.G_ema.parameters())
        self._latent = game.spec.vector(grid.latents).to(weight)
        self._rows = len(self._latent) // grid.columns if game.spec.categorical else 1

    def __call__(self, micro_batches: Sequence[MicroBatch]) -> dict[str, Tensor]:
        """D's score of the fakes after G's update, the diversity of fixed noise, and the use of each class on the reals."""
        measured = {"health/diversity": self.diversity()} | self.usage(micro_batches)
        return fake_score(self._game, micro_batches) | measured

    @torch.no_grad()
    def diversity(self) -> Tensor:
        """How much a pixel of G_ema's images varies with z while c is held: its standard deviation, averaged over pixels and
        classes; images are in [-1, 1]. Near 0, G ignores its noise."""
        images = self._game.networks.G_ema(self._latent).double()
        deviation: Tensor = images.unflatten(0, (self._rows, -1)).std(1).mean()
        return deviation

    @torch.no_grad()
    def usage(self, micro_batches: Sequence[MicroBatch]) -> dict[str, Tensor]:
        """Q's mean probability of each class of each categorical code on the reals, `usage/categorical_0/7`."""
        networks, spec = self._game.networks, self._game.spec
        shares: dict[str, list[Tensor]] = {}
        with untouched(networks.FE, networks.Q), self._game.engine.autocast():
            for batch in micro_batches:
                posterior = CodePosterior.from_output(networks.Q(networks.FE(batch.reals)), spec)
                for name, logits in zip(spec.categorical_names, posterior.logits, strict=True):
                    for number, share in enumerate(logits.softmax(1).mean(0)):
                        shares.setdefault(f"usage/{name}/{number}", []).append(share)
        return {key: torch.stack(values).mean() for key, values in shares.items()}


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
