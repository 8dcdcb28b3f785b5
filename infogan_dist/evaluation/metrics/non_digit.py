"""Non-digits: samples on which the reference classifier is less confident than on nearly all real digits."""

from __future__ import annotations

from torch import Tensor

PASSING_REALS = 0.99
"""The fraction of real test digits that pass. The remaining 1 % is the rate of the reals themselves."""


def least_confidence(real_confidences: Tensor) -> float:
    """The confidence that a `PASSING_REALS` share of the real digits reaches, of their confidences [N]."""
    failing = len(real_confidences) - round(PASSING_REALS * len(real_confidences))
    return real_confidences.sort().values[failing].item()


def non_digit_rate(confidences: Tensor, least: float) -> float:
    """The fraction of samples whose confidence, of [N], is below `least`."""
    return (confidences < least).double().mean().item()
