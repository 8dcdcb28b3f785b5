"""The averaged generator with its latent spec: everything that is needed to draw images, in one object and one file."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from infogan_dist.config.schema import Config
from infogan_dist.errors import UserError
from infogan_dist.latents import CodeValue, Latents
from infogan_dist.networks.class_prior import spec_of
from infogan_dist.randomness import Stream
from infogan_dist.sampling import pretrained
from infogan_dist.sampling.batches import batches_of
from infogan_dist.sampling.pretrained import Pretrained, Provenance


class Generator:
    """G_ema and its LatentSpec. `network` maps [B, spec.dim] to images [B, C, H, W] in [-1, 1]."""

    def __init__(self, network: nn.Module, config: Config, provenance: Provenance | None = None):
        self.network = network.eval().requires_grad_(False)
        self.config = config
        self.spec = spec_of(config.latents, network)
        self.provenance = provenance or Provenance()

    @classmethod
    def from_pretrained(cls, path: str | Path) -> Generator:
        """From a run folder (its newest checkpoint that verifies), one checkpoint folder, an exported .safetensors file, a folder
        that `convert --to huggingface` wrote, or a hub repo id, `user/name`.

        Raises UserError where `path` is none of these, NoUsableCheckpoint where a checkpoint does not verify.
        """
        model = pretrained.load(path, "G")
        return cls(model.network("G"), model.config, model.provenance)

    def to(self, device: torch.device | str) -> Generator:
        """This generator, moved to `device`, where its images then are."""
        self.network.to(device)
        return self

    def sample(self, count: int, seed: int | None = None, **codes: CodeValue) -> Tensor:
        """`count` images [count, C, H, W] in [-1, 1], float32; a code that is not set is drawn at random,
        a class from the learned prior if there is one.

        A code takes one value, or a list: image i takes its i-th value, and the list is repeated. Image i is a function of the
        seed, i and the codes set; without a seed, every call draws others.
        Raises UserError for a code this model does not have or a value it does not take.
        """
        if count < 0:
            raise UserError(f"sample draws 0 images or more, not {count}")
        data = self.config.data
        empty = torch.empty(0, data.channels, data.image_size, data.image_size, device=self._weight.device)
        return torch.cat([empty, *self.batches(count, seed, **codes)])

    def batches(self, count: int, seed: int | None = None, **codes: CodeValue) -> Iterator[Tensor]:
        """The images of `sample` a few at a time, for more of them than memory holds."""
        seed = secrets.randbits(63) if seed is None else seed
        for positions in batches_of(count):
            yield self.images_at(positions, seed, **codes)[: count - int(positions[0])]

    def traverse(self, code: str, frames: int = 10, seed: int = 0, low: float = -1.0, high: float = 1.0) -> Tensor:
        """One image of `sample` with one code changed: every class, or `frames` values from `low` to `high`. z and the other codes are
        held. Images [n, C, H, W] in [-1, 1]. Raises UserError for a code that this model does not have."""
        self.spec.with_values(self.spec.neutral_codes(0), {code: 0})
        values = self.spec.sweep_values(code, frames, low, high)
        held = self.latents_at(torch.zeros(len(values), dtype=torch.int64), seed)
        return self.draw(Latents(held.noise, self.spec.with_values(held.codes, {code: values})))

    def images_at(self, positions: Tensor, seed: int, **codes: CodeValue) -> Tensor:
        """The images that stand at `positions`, int64 [B], in the endless row of `sample`'s images."""
        return self.draw(self.latents_at(positions, seed, **codes))

    def latents_at(self, positions: Tensor, seed: int, **codes: CodeValue) -> Latents:
        """What the images at `positions` are drawn from."""
        drawn = self.spec.draw(Stream(seed, "sample"), positions)
        return Latents(drawn.noise, self.spec.with_values(drawn.codes, codes, positions))

    @torch.no_grad()
    def draw(self, latents: Latents) -> Tensor:
        """The images [B, C, H, W] of given noise and codes, float32 in [-1, 1]."""
        images: Tensor = self.network(self.spec.vector(latents).to(self._weight))
        return images.float()

    def save(self, path: str | Path) -> None:
        """Write one .safetensors file that `from_pretrained` reads: weights, config, and the names of the codes if they have any.

        Raises UserError for another ending, OSError where the file cannot be written.
        """
        tensors = {"G": dict(self.network.state_dict())}
        pretrained.save(Pretrained(self.config, tensors, self.provenance), path)

    @property
    def _weight(self) -> Tensor:
        return next(self.network.parameters())
