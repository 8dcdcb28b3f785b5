"""Chooses the train images of `imbalanced-mnist`: data preparation, once, with labels. Training reads the indexes only.

Digit d keeps n * RATIO ** (-d / 9) images, n being the number of images of the rarest digit, so that digit 0 is RATIO times as
frequent as digit 9 (a long-tailed set as in Cui et al. 2019, section 5.1). Which ones follows from a seeded permutation.
Rebuild the file with `python -m infogan_dist.evaluation.imbalanced_subset MNIST_ROOT OUT.npz`.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infogan_dist.config.model import DataConfig
from infogan_dist.evaluation.labels import open_labelled
from infogan_dist.randomness import Stream

RATIO = 20
DIGITS = 10


def chosen(labels: Tensor) -> Tensor:
    """Whether each image is in the subset, bool [N], of labels int64 [N]."""
    order = Stream(0, "imbalanced-mnist").permutation(0, len(labels))
    least = int(labels.bincount(minlength=DIGITS).min())
    mask = torch.zeros(len(labels), dtype=torch.bool)
    for digit in range(DIGITS):
        count = round(least * RATIO ** (-digit / (DIGITS - 1)))
        mask[order[labels[order] == digit][:count]] = True
    return mask


def draw(root: str) -> dict[str, NDArray[Any]]:
    """The arrays of the shipped file, by base: a bit for each train image of mnist in `root` (torchvision's layout) and of mnist-mini."""
    bases = (DataConfig(name="mnist", root=root), DataConfig(name="mnist-mini"))
    return {base.name: np.packbits(chosen(open_labelled(base, "train").labels).numpy()) for base in bases}


if __name__ == "__main__":
    np.savez_compressed(sys.argv[2], allow_pickle=False, **draw(sys.argv[1]))
