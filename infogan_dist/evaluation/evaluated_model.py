"""What is evaluated: G_ema, FE and Q of a checkpoint, or of networks in training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from infogan_dist.checkpoints import store as checkpoints
from infogan_dist.config.schema import Config
from infogan_dist.data.fingerprint import Fingerprint
from infogan_dist.data.sources import ImageSource, scaled
from infogan_dist.distributed.group import Group
from infogan_dist.errors import UserError
from infogan_dist.latents import Codes, Latents
from infogan_dist.losses import CodePosterior
from infogan_dist.networks import Networks
from infogan_dist.networks.class_prior import spec_of
from infogan_dist.networks.loading import load_network
from infogan_dist.randomness import Stream
from infogan_dist.sampling.batches import batches_of

FRESH = 10_000  # images that G draws for a metric: as many as MNIST has test images


@dataclass(frozen=True)
class Origin:
    """The checkpoint of a model: its path, step, images seen, and the fingerprint of its training images where it records one.

    `refined` are the `images` and the `seed` of `infogan-dist refine`, where FE and Q are from it.
    """

    path: Path
    step: int
    images_seen: int
    images: Fingerprint | None = None
    refined: dict[str, int] | None = None

    @property
    def run(self) -> Path | None:
        """The run folder of the checkpoint; None where the checkpoint is not in one."""
        return self.path.parent.parent if self.path.parent.name == "checkpoints" else None

    @property
    def name(self) -> str:
        """The name of the run folder, or of a checkpoint that is not in one."""
        return (self.run or self.path).resolve().name


class EvaluatedModel:
    """G, FE and Q in evaluation mode on `group`'s device. Every rank makes one and calls its methods in the same order.

    Predictions are float64 on the CPU. Their bits do not depend on the rank or the number of ranks, only on the threads per rank.
    Results are cached.
    """

    def __init__(
        self, G: nn.Module, FE: nn.Module, Q: nn.Module, config: Config, origin: Origin | None, fresh: int = FRESH
    ):
        self.G, self.FE, self.Q = G, FE, Q
        self.config, self.origin, self.fresh = config, origin, fresh
        self.spec = spec_of(config.latents, G)
        self.stream = Stream(config.seed, "evaluation")
        self._read: dict[int, tuple[ImageSource, CodePosterior]] = {}
        self._fakes: tuple[CodePosterior, Codes] | None = None

    @property
    def device(self) -> torch.device:
        return next(self.G.parameters()).device

    def posteriors(self, source: ImageSource, group: Group) -> CodePosterior:
        """Q(c | x) of every image of a source, in the order of the source."""
        if id(source) not in self._read:
            read = group.map_batches(batches_of(len(source)), lambda ours: self.recognise(scaled(source.read(ours))))
            self._read[id(source)] = source, self.posterior(read[: len(source)])
        return self._read[id(source)][1]

    def fakes(self, group: Group) -> tuple[CodePosterior, Codes]:
        """Q(c | G(z, c)) of `fresh` images of G, and their codes c."""
        if self._fakes is None:
            read = group.map_batches(batches_of(self.fresh), lambda ours: self.recognise(self.draw(self._vector(ours))))
            codes = self.latents(torch.arange(self.fresh)).codes
            self._fakes = self.posterior(read[: self.fresh]), codes
        return self._fakes

    def latents(self, positions: Tensor, **codes: Tensor | float) -> Latents:
        """z and c at `positions`, int64 [B], a function of the run's seed and position; the named codes are held at the given values."""
        drawn = self.spec.draw(self.stream, positions)
        return Latents(drawn.noise, self.spec.with_values(drawn.codes, codes))

    @torch.no_grad()
    def draw(self, vector: Tensor) -> Tensor:
        """G's images [B, C, H, W] in [-1, 1] for its input [B, spec.dim], on the device."""
        # `forward`, here and below, because networks in training may be compiled for another batch size
        images: Tensor = self.G.forward(vector.to(next(self.G.parameters())))
        return images

    def sample(self, count: int, group: Group, **codes: float) -> Tensor:
        """`count` images of G, [count, C, H, W] in [-1, 1], float32 on the CPU. Each rank draws a part."""
        drawn = group.map_batches(batches_of(count), lambda ours: self.draw(self._vector(ours, **codes)).float())
        return drawn[:count].cpu()

    @torch.no_grad()
    def recognise(self, images: Tensor) -> Tensor:
        """Q's output [B, spec.posterior_dim] for images [B, C, H, W] in [-1, 1], on the device."""
        images = images.to(next(self.FE.parameters()))
        output: Tensor = self.Q.forward(self.FE.forward(images))
        return output

    def _vector(self, positions: Tensor, **codes: Tensor | float) -> Tensor:
        return self.spec.vector(self.latents(positions, **codes))

    def posterior(self, output: Tensor) -> CodePosterior:
        """Q's output [B, spec.posterior_dim] as float64 on the CPU."""
        return CodePosterior.from_output(output.cpu().double(), self.spec, self.config.objective)


def from_checkpoint(path: Path, group: Group) -> EvaluatedModel:
    """The model of a checkpoint folder, or of a run folder's newest valid checkpoint. Every rank calls it.

    Raises UserError where `path` is neither, NoUsableCheckpoint where no checkpoint verifies.
    """
    if path.suffix == ".safetensors":
        raise UserError(f"{path} is an exported file; evaluating needs a run folder or a checkpoint folder")
    checkpoint = group.on_main(lambda: checkpoints.find(path))
    state = group.on_main(lambda: checkpoint.load("G_ema", "FE", "Q"))
    config = checkpoint.config
    loaded = {name: _loaded(name, config, state[name], checkpoint.path, group) for name in state}
    origin = Origin(checkpoint.path, checkpoint.step, checkpoint.images_seen, checkpoint.images, checkpoint.refined)
    return EvaluatedModel(loaded["G_ema"], loaded["FE"], loaded["Q"], config, origin)


@contextmanager
def in_training(networks: Networks, config: Config, fresh: int = FRESH) -> Iterator[EvaluatedModel]:
    """The networks of a run in training as a model. Restores each module's training mode afterwards; no buffer changes."""
    examined = (networks.G_ema, networks.FE, networks.Q)
    modes = [(module, module.training) for network in examined for module in network.modules()]
    try:
        for network in examined:
            network.eval()
        yield EvaluatedModel(*examined, config, None, fresh)
    finally:
        for module, mode in modes:
            module.training = mode


def _loaded(name: str, config: Config, tensors: Mapping[str, Tensor], path: Path, group: Group) -> nn.Module:
    try:
        network = load_network(name, config, tensors)
    except ValueError as error:
        raise UserError(f"{path} does not hold the weights its config describes: {error}") from error
    return network.to(group.device).eval().requires_grad_(False)
