"""Traversal consistency: does class k of the code draw the digit it stands for, whatever z is?"""

from __future__ import annotations

from torch import Tensor


def traversal_consistency(read: Tensor, drawn_classes: Tensor, digit_of_class: Tensor) -> float:
    """The fraction of samples read as the digit of the class they were drawn with.

    read: the digits that the classifier reads, int64 [N]. drawn_classes: of categorical_0, int64 [N]. digit_of_class: the one-to-one
    matching fitted on real train digits, int64 [K]; a class that has no digit (-1) is never consistent.
    """
    return (read == digit_of_class[drawn_classes]).double().mean().item()
