"""Samples that are no digit: the classifier is less sure of them than of nearly all real digits."""

from __future__ import annotations

from torch import Tensor

PASSING_REALS = 0.99
"""The fraction of real test digits that pass: 1 % of reals are non-digits by construction, the floor of the rate."""


def least_confidence(real_confidences: Tensor) -> float:
    """The classifier's confidence that `PASSING_REALS` of real digits reach, of confidences [N]."""
    failing = len(real_confidences) - round(PASSING_REALS * len(real_confidences))
    return real_confidences.sort().values[failing].item()


def non_digit_rate(confidences: Tensor, least: float) -> float:
    """The fraction of samples, of their confidences [N], that `least` is not reached by."""
    return (confidences < least).double().mean().item()
