"""Mode coverage and reverse KL of the classes that the reference classifier predicts on G's images."""

from __future__ import annotations

import torch
from torch import Tensor

LEAST_OF_REAL_SHARE = 0.1
"""A class counts as covered from this fraction of its share of the reals on. Metz et al. 2017 (section 3.3.1) count a class from
its first sample, which suits 1,000 classes; of ten, the classifier's errors alone would cover every class."""


def class_shares(read: Tensor, classes: int) -> Tensor:
    """The share of each class, float64 [classes], in predictions int64 [N]."""
    return torch.bincount(read, minlength=classes).double() / len(read)


def mode_coverage(fake_shares: Tensor, real_shares: Tensor) -> float:
    """The fraction of the reals' classes that the fakes cover, of shares [classes]."""
    real = real_shares > 0
    return (fake_shares >= LEAST_OF_REAL_SHARE * real_shares)[real].double().mean().item()


def reverse_kl(fake_shares: Tensor, real_shares: Tensor) -> float:
    """KL(fakes || reals) in nats, of shares [classes] (Metz et al. 2017, section 3.3.1); ln K where G draws one of K even classes.

    Infinite where the fakes have a class that the reals do not.
    """
    ratio = torch.log(fake_shares / real_shares)
    return torch.where(fake_shares > 0, fake_shares * ratio, 0.0).sum().item()
