"""The hinge loss (Lim and Ye 2017)."""

from torch import Tensor

from infogan_dist.losses import AdversarialLoss


def discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    return (1 - real_logits).relu().mean() + (1 + fake_logits).relu().mean()


def generator(fake_logits: Tensor, real_logits: Tensor | None) -> Tensor:
    return -fake_logits.mean()


HINGE = AdversarialLoss(discriminator, generator)
