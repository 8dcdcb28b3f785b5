"""T, random augmentations: differentiable functions of an image and of random numbers drawn at its global position.

No augmentation reads a label.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from infogan_dist.config.model import AugmentationConfig
from infogan_dist.randomness import Stream

GRID = 5  # points per side of the elastic field
CUT_SIDES = (4 / 28, 9 / 28)  # smallest and largest side of a cut rectangle, as a fraction of the image side
PASTE_SIDES = (4 / 28, 12 / 28)
WARP, RECTANGLE = 7, 5  # uniform numbers per warp and per rectangle
UNIFORMS, NORMALS = WARP + 2 * RECTANGLE, 2 * GRID * GRID


@dataclass(frozen=True)
class Augmentation:
    """One augmentation for each image of a batch, from the random numbers `draws` [B, UNIFORMS + NORMALS]. `strength` [] in [0, 1]
    scales the shares of cuts and pastes."""

    config: AugmentationConfig
    draws: Tensor
    strength: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        """Augmented images, [B, C, H, W] in [-1, 1] with background -1, like the input. Computed in float32 or higher. Images 2i and
        2i + 1 paste from each other, so B must be even if `config.paste` is not 0."""
        with torch.autocast(images.device.type, enabled=False):
            exact = images.to(torch.promote_types(images.dtype, torch.float32))
            warp, cut, paste, field = self.draws.to(exact.dtype).split([WARP, RECTANGLE, RECTANGLE, NORMALS], dim=1)
            ink = (exact + 1) / 2
            ink = warped(ink, warp, field, self.config)
            strength = self.strength.to(exact.dtype)
            if self.config.cut:
                ink = ink * (1 - rectangle(cut, self.config.cut * strength, CUT_SIDES, ink))
            if self.config.paste:
                others = ink.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
                ink = torch.maximum(ink, others * rectangle(paste, self.config.paste * strength, PASTE_SIDES, ink))
            return (2 * ink - 1).to(images.dtype)


def draws_at(stream: Stream, positions: Tensor) -> Tensor:
    """The random numbers that augment the images at global `positions`, float32 [B, UNIFORMS + NORMALS]: U[0, 1), then N(0, 1)."""
    uniform = stream.derived("uniform").uniform(positions, UNIFORMS)
    return torch.cat([uniform, stream.derived("normal").normal(positions, NORMALS)], dim=1)


def warped(ink: Tensor, draws: Tensor, field: Tensor, config: AugmentationConfig) -> Tensor:
    """Rotate, scale, shear, shift and deform the share `config.warp` of the images with one bilinear sampling, padded with 0."""
    chosen = (draws[:, 0] < config.warp).to(ink.dtype)
    rotation, scale, aspect, shear, dx, dy = ((2 * draws[:, 1:] - 1) * chosen[:, None]).unbind(1)
    rotation, shear = rotation * config.rotation, shear * config.shear
    wide, high = (scale * config.scale + a * config.aspect for a in (aspect, -aspect))
    cos, sin, wide, high = rotation.cos(), rotation.sin(), wide.exp(), high.exp()
    matrix = torch.stack(  # rotation @ shear @ scale, from output to input coordinates
        [
            torch.stack([cos * wide, (cos * shear - sin) * high, dx * config.shift], dim=1),
            torch.stack([sin * wide, (sin * shear + cos) * high, dy * config.shift], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(matrix, list(ink.shape), align_corners=False)
    elastic = (field * config.elastic * chosen[:, None]).view(-1, 2, GRID, GRID)
    elastic = F.interpolate(elastic, size=ink.shape[2:], mode="bilinear", align_corners=True)
    return F.grid_sample(ink, grid + elastic.permute(0, 2, 3, 1), align_corners=False)


def rectangle(draws: Tensor, probability: Tensor, sides: tuple[float, float], like: Tensor) -> Tensor:
    """A mask [B, 1, H, W]: 1 inside a random rectangle in the share `probability` of the images, 0 elsewhere."""
    chosen = (draws[:, 0] < probability).to(like.dtype)
    smallest, largest = sides
    rows, columns = (
        _interval(draws[:, offset], smallest + (largest - smallest) * draws[:, side], like.shape[axis])
        for side, offset, axis in ((1, 2, 2), (3, 4, 3))
    )
    return (chosen[:, None, None] * rows[:, :, None] * columns[:, None, :])[:, None]


def _interval(offset: Tensor, side: Tensor, size: int) -> Tensor:
    """A mask [B, size] of the pixel centres in an interval of length `side`. `offset` in [0, 1] places it between both ends."""
    centres = (torch.arange(size, device=offset.device, dtype=offset.dtype) + 0.5) / size
    start = (offset * (1 - side))[:, None]
    return ((centres >= start) & (centres < start + side[:, None])).to(offset.dtype)
