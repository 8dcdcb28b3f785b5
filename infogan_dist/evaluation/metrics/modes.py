"""Which of the digits are drawn at all, and how unevenly, by what the classifier reads."""

from __future__ import annotations

import torch
from torch import Tensor

LEAST_OF_REAL_SHARE = 0.1
"""A class counts as drawn from a tenth of its share of the reals on. Metz et al. 2017 (section 3.3.1) count a class from its
first sample, which suits 1,000 classes; of ten, the classifier's own mistakes would fill every one."""


def class_shares(read: Tensor, classes: int) -> Tensor:
    """How often each class is read, float64 [classes], of digits int64 [N]."""
    return torch.bincount(read, minlength=classes).double() / len(read)


def mode_coverage(fake_shares: Tensor, real_shares: Tensor) -> float:
    """The fraction of the classes of the reals that the fakes hold, by shares [classes]."""
    real = real_shares > 0
    return (fake_shares >= LEAST_OF_REAL_SHARE * real_shares)[real].double().mean().item()


def reverse_kl(fake_shares: Tensor, real_shares: Tensor) -> float:
    """KL(fakes || reals) in nats, of shares [classes] (Metz et al. 2017, section 3.3.1); ln K where one of K is drawn.

    Infinite where a class is drawn that the reals do not hold.
    """
    ratio = torch.log(fake_shares / real_shares)
    return torch.where(fake_shares > 0, fake_shares * ratio, 0.0).sum().item()
