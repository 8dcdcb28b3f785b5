"""Writes a folder of PNG files with the digits 0 to 6, of which 0 is 20 times as frequent as 6, to try `latents.prior` on:
`python -m tests.bench.uneven_digits MNIST_ROOT OUT`, with full MNIST in torchvision's layout.

It reads labels to choose the files and to name the subfolders, 0 to 6. Training does not read these names; `evaluate` does.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torchvision.transforms.v2.functional import to_pil_image

from infogan_dist.config.model import DataConfig
from infogan_dist.evaluation.labels import open_labelled
from infogan_dist.randomness import Stream

LARGEST, RATIO, DIGITS = 4000, 20, 7
COUNTS = [round(LARGEST * RATIO ** (-digit / (DIGITS - 1))) for digit in range(DIGITS)]  # 4000, 2428, ..., 200


def chosen(labels: torch.Tensor) -> list[torch.Tensor]:
    """By digit, the indexes of its first images, COUNTS of them, in a seeded permutation of all images."""
    order = Stream(0, "uneven digits").permutation(0, len(labels))
    return [order[labels[order] == digit][:count] for digit, count in enumerate(COUNTS)]


def main(root: str, out: Path) -> None:
    digits = open_labelled(DataConfig(name="mnist", root=root), "train")
    for digit, indexes in enumerate(chosen(digits.labels)):
        folder = out / str(digit)
        folder.mkdir(parents=True)
        for index, image in zip(indexes.tolist(), digits.source.read(indexes), strict=True):
            to_pil_image(image).save(folder / f"{index}.png")
        print(f"{folder}: {len(indexes)} images")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
