"""The averaged generator with its latent spec: everything that is needed to draw images, in one object and one file."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from infogan_dist.checkpoints import store as checkpoints
from infogan_dist.config.reading import parse_config
from infogan_dist.config.schema import Config
from infogan_dist.errors import UserError
from infogan_dist.files import atomic_write, check_safetensors_header, path_problem
from infogan_dist.latents import Latents, LatentSpec
from infogan_dist.networks.loading import load_network
from infogan_dist.randomness import Stream
from infogan_dist.sampling.grids import batches_of

HEADER = "infogan_dist"  # the key of the exported file's metadata that holds the config


class Generator:
    """G_ema and its LatentSpec. `network` maps [B, spec.dim] to images [B, C, H, W] in [-1, 1]."""

    def __init__(self, network: nn.Module, config: Config):
        self.network = network.eval().requires_grad_(False)
        self.config = config
        self.spec = LatentSpec.from_config(config.latents)

    @classmethod
    def from_pretrained(cls, path: str | Path) -> Generator:
        """From a run folder (its newest checkpoint that verifies), one checkpoint folder or an exported .safetensors file.

        Raises UserError where `path` is none of these, NoUsableCheckpoint where a checkpoint does not verify.
        """
        path = Path(path)
        if path.suffix == ".safetensors":
            config, tensors = _read_exported(path)
        else:
            checkpoint = checkpoints.find(path)
            config, tensors = checkpoint.config, checkpoint.load("G_ema")["G_ema"]
        return cls(_generator_with(config, tensors, path), config)

    def sample(self, count: int, seed: int | None = None, **codes: float) -> Tensor:
        """`count` images [count, C, H, W] in [-1, 1], float32; a code that is not set is drawn at random.

        Image i is a function of the seed, i and the codes set; without a seed, every call draws others.
        Raises UserError for a code this model does not have or a value it does not take.
        """
        if count < 0:
            raise UserError(f"sample draws 0 images or more, not {count}")
        data = self.config.data
        empty = torch.empty(0, data.channels, data.image_size, data.image_size)
        return torch.cat([empty, *self.batches(count, seed, **codes)])

    def batches(self, count: int, seed: int | None = None, **codes: float) -> Iterator[Tensor]:
        """The images of `sample` a few at a time, for more of them than memory holds."""
        seed = secrets.randbits(63) if seed is None else seed
        for positions in batches_of(count):
            yield self.images_at(positions, seed, **codes)[: count - int(positions[0])]

    def images_at(self, positions: Tensor, seed: int, **codes: float) -> Tensor:
        """The images that stand at `positions`, int64 [B], in the endless row of `sample`'s images."""
        return self.draw(self.latents_at(positions, seed, **codes))

    def latents_at(self, positions: Tensor, seed: int, **codes: float) -> Latents:
        """What the images at `positions` are drawn from."""
        drawn = self.spec.draw(Stream(seed, "sample"), positions)
        return Latents(drawn.noise, self.spec.with_values(drawn.codes, codes))

    @torch.no_grad()
    def draw(self, latents: Latents) -> Tensor:
        """The images [B, C, H, W] of given noise and codes, float32 in [-1, 1]."""
        weight = next(self.network.parameters())
        images: Tensor = self.network(self.spec.vector(latents).to(weight))
        return images.float()

    def save(self, path: Path) -> None:
        """Write one .safetensors file that `from_pretrained` reads: the weights, and the config in the header."""
        tensors = {name: tensor.contiguous() for name, tensor in self.network.state_dict().items()}
        with atomic_write(path) as partial:
            save_file(tensors, partial, metadata={HEADER: self.config.model_dump_json()})


def _read_exported(path: Path) -> tuple[Config, dict[str, Tensor]]:
    problem = path_problem(str(path))
    if problem is not None or not path.is_file():
        raise UserError(f"there is no file {path}{f': its path {problem}' if problem else ''}")
    try:
        check_safetensors_header(path)
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(HEADER)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - safe_open is no mapping
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a safetensors file: {error}") from error
    if header is None:
        raise UserError(
            f"{path} is a safetensors file, but not one that `infogan-dist convert` wrote: no config in its header"
        )
    try:
        return parse_config(json.loads(header)), tensors
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: the config in its header is not one of ours: {error}") from error


def _generator_with(config: Config, tensors: dict[str, Tensor], path: Path) -> nn.Module:
    try:
        return load_network("G_ema", config, tensors)
    except ValueError as error:
        raise UserError(f"{path} does not hold the weights its config describes: {error}") from error
