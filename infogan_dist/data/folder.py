"""A folder of image files as a data set."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from infogan_dist.config.model import DataConfig
from infogan_dist.data.decoding import ENDINGS, decode
from infogan_dist.data.sources import ImageSource
from infogan_dist.errors import UserError


class FolderSource:
    """Image files in the order of their paths. Each is decoded, cropped to a square and resized when it is read."""

    def __init__(self, paths: list[Path], data: DataConfig):
        self.paths, self._data = paths, data
        self._decoders = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, indexes: Tensor) -> Tensor:
        return torch.stack(list(self._decoders.map(self._decode, indexes.tolist())))

    def _decode(self, index: int) -> Tensor:
        size, image = (
            (self._data.image_size,) * 2,
            decode(self.paths[index], self._data.channels, self._data.background),
        )
        return pil_to_tensor(ImageOps.fit(image, size, Image.Resampling.BICUBIC))


def open_folder(data: DataConfig, split: str) -> ImageSource:
    """All image files below data.root, for every split. Raises UserError if there are none."""
    root = Path(str(data.root))
    if not root.is_dir():
        raise UserError(f"data.root = {root} is not a folder; set it to the folder of images")
    paths = image_files(root)
    if not paths:
        raise UserError(f"data.root = {root} holds no images ({', '.join(sorted(ENDINGS))})")
    return FolderSource(paths, data)


def image_files(root: Path) -> list[Path]:
    """The image files below a folder, in the order of their paths."""
    return sorted(path for path in root.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
