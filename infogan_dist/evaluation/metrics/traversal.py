"""Traversal consistency: whether class k of the code draws its matched digit for every z."""

from __future__ import annotations

from torch import Tensor


def traversal_consistency(read: Tensor, drawn_classes: Tensor, digit_of_class: Tensor) -> float:
    """The fraction of samples that the classifier reads as the digit of their class.

    read: the digits that the classifier predicts, int64 [N]. drawn_classes: the classes of the matched code that G drew with,
    int64 [N]. digit_of_class: the one-to-one matching fitted on train digits, int64 [K]; an unmatched class (-1) is never
    consistent.
    """
    return (read == digit_of_class[drawn_classes]).double().mean().item()
