"""What D sees in place of reals and fakes: DiffAugment (Zhao et al. 2020) and instance noise (Sønderby et al. 2017; Roth et al. 2017).

Q keeps reading the images, or Q's own augmentations of them, because a continuous code cannot encode what is randomised. FE then makes
additional passes over the images of Q.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from infogan_dist.config.schema import Config
from infogan_dist.data.diff_augment import COLUMNS, diff_augment
from infogan_dist.losses import adversarial_loss
from infogan_dist.randomness import Stream
from infogan_dist.training.schedule import instance_noise

Use = Literal["real_D", "fake_D", "fake_G", "real_G"]
USES: tuple[Use, ...] = ("real_D", "fake_D", "fake_G", "real_G")  # reals and fakes in the D step and in the G step


@dataclass(frozen=True)
class Perturbation:
    """Perturbs the images of a micro-batch before D, differently for each use.

    `draws`, U[0, 1) [B, uses, COLUMNS], are for `diff_augment` with `policy`. `noise`, [B, uses, C, H, W], is added to the images,
    with the standard deviation of this step; None if it is 0.
    """

    policy: tuple[str, ...]
    draws: Tensor
    noise: Tensor | None

    def __call__(self, images: Tensor, use: Use, probability: Tensor | None = None) -> Tensor:
        """[B, C, H, W], differentiable. Each augmentation is made with `probability` [], or always if it is None."""
        number = USES.index(use)
        if self.policy:
            images = diff_augment(
                images, self.draws[:, number], self.policy, 1.0 if probability is None else probability
            )
        return images if self.noise is None else images + self.noise[:, number].to(images.dtype)

    def first(self, images: int) -> Perturbation:
        """That of the first images."""
        return Perturbation(self.policy, self.draws[:images], None if self.noise is None else self.noise[:images])


class PerturbationStream:
    """Draws the perturbations at global positions."""

    def __init__(self, config: Config):
        self._config = config
        stream = Stream(config.seed, "perturbations")
        self._augmentations, self._noise = stream.derived("augmentation"), stream.derived("noise")
        self._uses = len(USES) if adversarial_loss(config.objective).compares_with_reals else len(USES) - 1

    def draws_at(self, positions: Tensor) -> dict[str, Tensor]:
        """The draws of the augmentations, [B, uses * COLUMNS], by purpose; empty without any."""
        if not self._config.objective.diff_augment:
            return {}
        return {"perturbation": self._augmentations.uniform(positions, self._uses * COLUMNS)}

    def at(self, images_seen: int, positions: Tensor, drawn: dict[str, Tensor], like: Tensor) -> Perturbation | None:
        """The perturbation in the step after `images_seen` images, for images of the shape, dtype and device of `like`; None if D sees
        the images themselves. `drawn` contains the result of `draws_at`."""
        policy, std = self._config.objective.diff_augment, instance_noise(self._config, images_seen)
        if not policy and not std:
            return None
        draws = drawn.get("perturbation", like.new_empty(len(like), 0)).unflatten(1, (self._uses, -1))
        noise = None
        if std:  # drawn for one step at a time: it has as many numbers as the images
            columns = self._uses * like[0].numel()
            noise = std * self._noise.normal(positions.to(like.device), columns).view(len(like), -1, *like.shape[1:])
        return Perturbation(policy, draws, noise)
