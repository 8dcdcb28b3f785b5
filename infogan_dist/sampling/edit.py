"""Editing a real image: its codes by Q, its noise by optimisation through G, then the image drawn again with other codes.

With x the image, c its codes, c' the codes wanted and T = TEMPERATURE, the noise z is the least of

    L(z) = |G(z, c) - x|² + CLOSENESS · |G(z, c') - x|² - LEGIBILITY · log softmax(T · Q(c' | G(z, c')))

found by Adam from several starts. The first term alone explains x by many z, and most of them draw something of another style
under c'. The second chooses the one whose edit stays nearest to x, the third keeps that edit in its class. Where no class
changes, only the first term counts: a continuous code may change as much as it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from infogan_dist.errors import UserError
from infogan_dist.latents import Codes, CodeValue, Latents
from infogan_dist.losses import CodePosterior
from infogan_dist.randomness import Stream
from infogan_dist.sampling.generator import Generator
from infogan_dist.sampling.interpolation import from_normal, to_normal
from infogan_dist.sampling.recognizer import Recognizer

# Chosen on 50 test digits of mnist-mini and the first quickstart run, whose edits the reference classifier read.
CLOSENESS, LEGIBILITY = 0.5, 0.3
TEMPERATURE = (
    0.3  # Q is sure of much that nobody reads as its class: at 1, 41 of 50 edits were read as wanted, at 0.3 46
)
DRAWN = 256  # noises drawn, of which the best are starts
STARTS = 4
STEPS = 200
RATE = 0.05  # Adam's, falling to 0 in the last quarter


@dataclass(frozen=True)
class Edit:
    """A real image and how G draws it, each [1, C, H, W] in [-1, 1], with the latents of the drawn ones."""

    original: Tensor
    reconstruction: Tensor
    edited: Tensor
    latents: Latents
    edited_latents: Latents


def edit(G: Generator, Q: Recognizer, image: Tensor, codes: Mapping[str, CodeValue], seed: int = 0) -> Edit:
    """Change `codes` in an image [C, H, W] in [-1, 1]. The same seed, the same edit.

    Raises UserError for an image of another shape, a code that this model does not have or a value that it does not take.
    """
    spec = G.spec
    if not codes:
        raise UserError("an edit needs a code to change, such as categorical_0=3")
    for name, value in codes.items():
        if not isinstance(value, (int, float)):
            raise UserError(f"an edit takes one value of {name}")
    found = Q.codes(image[None])
    before = Codes(found.categorical, found.continuous.clamp(-1, 1))
    after = spec.with_values(before, codes)
    drawn = spec.draw(Stream(seed, "edit"), torch.arange(DRAWN)).noise
    search = _Search(G, Q, image[None], before, after)
    with torch.no_grad():
        best = search.loss(drawn).argsort(stable=True)[:STARTS]
    noise = search.descend(drawn[best])
    latents, edited = Latents(noise, before), Latents(noise, after)
    return Edit(image[None], G.draw(latents), G.draw(edited), latents, edited)


class _Search:
    """The noise of one image."""

    def __init__(self, G: Generator, Q: Recognizer, image: Tensor, before: Codes, after: Codes):
        self._G, self._Q, self._image = G, Q, image
        self._before, self._after = before, after
        changed = (before.categorical != after.categorical)[0]
        self._changed = changed.nonzero().flatten().tolist()

    def descend(self, starts: Tensor) -> Tensor:
        """The best noise [1, noise_dim] that Adam reaches from the starts [n, noise_dim]."""
        spec = self._G.spec
        normal = to_normal(starts.double(), spec).to(starts).requires_grad_()
        optimizer = torch.optim.Adam([normal], lr=RATE)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, 4 * (1 - step / STEPS)))
        for _ in tqdm(range(STEPS), desc="fitting the noise", disable=None, leave=False):
            optimizer.zero_grad()
            self.loss(from_normal(normal, spec)).sum().backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            noise = from_normal(normal, spec)
            return noise[self.loss(noise).argmin()][None]

    def loss(self, noise: Tensor) -> Tensor:
        """L of each noise, [n]."""
        loss = self._distance(self._draw(noise, self._before))
        if self._changed:
            edited = self._draw(noise, self._after)
            loss = loss + CLOSENESS * self._distance(edited) + LEGIBILITY * self._illegibility(edited)
        return loss

    def _draw(self, noise: Tensor, codes: Codes) -> Tensor:
        spec, weight = self._G.spec, next(self._G.network.parameters())
        alike = Codes(codes.categorical.expand(len(noise), -1), codes.continuous.expand(len(noise), -1))
        images: Tensor = self._G.network(spec.vector(Latents(noise, alike)).to(weight))
        return images

    def _distance(self, images: Tensor) -> Tensor:
        return (images - self._image).square().flatten(1).mean(1)

    def _illegibility(self, images: Tensor) -> Tensor:
        posterior = CodePosterior.from_output(self._Q.Q(self._Q.FE(images)), self._G.spec, self._Q.config.objective)
        wanted = self._after.categorical.expand(len(images), -1)
        losses = [
            cross_entropy(TEMPERATURE * posterior.logits[code], wanted[:, code], reduction="none")
            for code in self._changed
        ]
        return torch.stack(losses).sum(0)
