"""`mnist-mini`: 10,000 train and 2,000 test digits of MNIST that ship with the package, for a first run without a download.

Source: the MNIST database of handwritten digits (Y. LeCun, C. Cortes, C. J. C. Burges; yann.lecun.com/exdb/mnist), CC BY-SA 3.0,
as is this subset: the first 10,000 and 2,000 images of a seeded permutation of MNIST's train and test parts, which do not
overlap. Labels do not influence the choice, so the digits are as unevenly frequent as in MNIST; they are stored for `evaluate`.
Rebuild the file with `python -m infogan_dist.data.mnist_mini MNIST_ROOT OUT.npz`.
"""

from __future__ import annotations

import sys
from importlib.resources import files
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from infogan_dist.randomness import Stream

COUNTS = {"train": 10_000, "test": 2_000}


def load(split: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The images [N, 28, 28] and labels [N] of `train` or `test`, uint8."""
    with files("infogan_dist.data").joinpath("mnist_mini.npz").open("rb") as file, np.load(file) as arrays:
        return arrays[f"{split}_images"], arrays[f"{split}_labels"]


def draw(root: str) -> dict[str, NDArray[Any]]:
    """The arrays of the shipped file, drawn from MNIST in `root` (torchvision's layout)."""
    from torchvision.datasets import MNIST

    arrays: dict[str, NDArray[Any]] = {}
    for split, count in COUNTS.items():
        full = MNIST(root, train=split == "train")
        chosen = Stream(0, f"mnist-mini/{split}").permutation(0, len(full))[:count]
        arrays[f"{split}_images"] = full.data[chosen].numpy()
        arrays[f"{split}_labels"] = full.targets[chosen].to(torch.uint8).numpy()
    return arrays


if __name__ == "__main__":
    np.savez_compressed(sys.argv[2], allow_pickle=False, **draw(sys.argv[1]))
