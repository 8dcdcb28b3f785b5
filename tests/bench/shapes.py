"""Writes a folder of PNG files with 12,000 sprites of 28 pixels, one subfolder for each shape: `python -m tests.bench.shapes OUT`.

Training does not read the subfolders' names; `evaluate` does, so that the code error of a three-way code is that of the shape.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torchvision.transforms.v2.functional import to_pil_image

from infogan_dist.data import sprites

COUNT, SIZE = 12_000, 28


def main(out: Path) -> None:
    factors = sprites.factors_at("train", torch.arange(COUNT))
    images = sprites.draw(factors, SIZE)
    for shape, name in enumerate(sprites.SHAPES):
        folder = out / name
        folder.mkdir(parents=True)
        indexes = (factors[:, 0] == shape).nonzero().flatten().tolist()
        for index in indexes:
            to_pil_image(images[index]).save(folder / f"{index}.png")
        print(f"{folder}: {len(indexes)} images")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
