"""A data set without files: stripes with a period of four pixels in three directions."""

import torch
from torch import Tensor

from infogan_dist.config.model import DataConfig
from infogan_dist.data.sources import ArraySource

COUNT = {"train": 96, "test": 48}


def open_stripes(data: DataConfig, split: str) -> ArraySource:
    """uint8 [N, 1, H, W]; the direction of image i is i mod 3, its phase i mod 4."""
    index = torch.arange(COUNT[split])[:, None, None]
    pixel = torch.arange(data.image_size)
    row, column = pixel[None, :, None], pixel[None, None, :]
    across = torch.stack([row + 0 * column, column + 0 * row, row + column])[index.flatten() % 3].squeeze(1)
    return ArraySource((((across + index) % 4 < 2) * 255).to(torch.uint8)[:, None])


def labels(data: DataConfig, split: str) -> Tensor:
    """The direction of each image, int64 [N]."""
    return torch.arange(COUNT[split]) % 3
