"""FE and Q of a trained model: images to codes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from infogan_dist.config.schema import Config
from infogan_dist.errors import UserError
from infogan_dist.latents import Codes, LatentSpec
from infogan_dist.losses import CodePosterior
from infogan_dist.sampling import pretrained
from infogan_dist.sampling.batches import BATCH
from infogan_dist.sampling.pretrained import Provenance


class Recognizer:
    """Q(c | x): `FE` maps images [B, C, H, W] in [-1, 1] to features, `Q` maps these to [B, spec.posterior_dim]."""

    def __init__(self, FE: nn.Module, Q: nn.Module, config: Config, provenance: Provenance | None = None):
        self.FE, self.Q = FE.eval().requires_grad_(False), Q.eval().requires_grad_(False)
        self.config = config
        self.spec = LatentSpec.from_config(config.latents)
        self.provenance = provenance or Provenance()

    @classmethod
    def from_pretrained(cls, path: str | Path) -> Recognizer:
        """From all that `Generator.from_pretrained` takes; an exported file holds FE and Q where it was written `--with-q`.

        Raises UserError where `path` is none of these or has no FE and Q, NoUsableCheckpoint where a checkpoint does not verify.
        """
        model = pretrained.load(path, "FE", "Q")
        return cls(model.network("FE"), model.network("Q"), model.config, model.provenance)

    def to(self, device: torch.device | str) -> Recognizer:
        """This recognizer, moved to `device`, where its codes then are."""
        self.FE.to(device)
        self.Q.to(device)
        return self

    def codes(self, images: Tensor) -> Codes:
        """The most probable class of each categorical code and the mean of each continuous one, of images [B, C, H, W] in [-1, 1]."""
        posterior = self.posterior(images)
        classes = [logits.argmax(1, keepdim=True) for logits in posterior.logits]
        empty = torch.empty(len(images), 0, dtype=torch.int64, device=posterior.mean.device)
        return Codes(torch.cat([empty, *classes], dim=1), posterior.mean)

    def posterior(self, images: Tensor) -> CodePosterior:
        """Q(c | x) of images [B, C, H, W] in [-1, 1], any number of them. Raises UserError for tensors that are no such images."""
        data = self.config.data
        expected = (data.channels, data.image_size, data.image_size)
        if images.shape[1:] != expected or not images.is_floating_point():
            shape, dtype = list(images.shape), str(images.dtype).removeprefix("torch.")
            raise UserError(
                f"images are [B, {', '.join(map(str, expected))}] of floats in [-1, 1], not {shape} of {dtype}"
            )
        outputs = [self._output(batch) for batch in images.split(BATCH)]
        return CodePosterior.from_output(torch.cat(outputs), self.spec, self.config.objective)

    @torch.no_grad()
    def _output(self, images: Tensor) -> Tensor:
        output: Tensor = self.Q(self.FE(images.to(next(self.FE.parameters()))))
        return output
