"""T: random views of images, each a differentiable function of the image and of numbers drawn at its global position.

Warps, cuts and pastes as in our experiments; nothing here looks at a label or at what an image shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from infogan_dist.config.model import AugmentationConfig
from infogan_dist.randomness import Stream

GRID = 5  # points a side of the elastic field
CUT_SIDES = (4 / 28, 9 / 28)  # shortest and longest side of what is cut out, in sides of the image
PASTE_SIDES = (4 / 28, 12 / 28)
WARP, RECTANGLE = 7, 5  # uniform numbers that a warp and a rectangle need
UNIFORMS, NORMALS = WARP + 2 * RECTANGLE, 2 * GRID * GRID


@dataclass(frozen=True)
class Augmentation:
    """One view of each image of a batch. `draws` [B, UNIFORMS + NORMALS] are its random numbers, `strength` [] in [0, 1]
    scales how often it cuts and pastes."""

    config: AugmentationConfig
    draws: Tensor
    strength: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        """[B, C, H, W] in [-1, 1] to the same, where -1 is the background. Computed in float32 at least; the pairs 2i and
        2i + 1 paste from each other, so B must be even where `config.paste` is not 0."""
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
    """The random numbers of one view of the images at global `positions`: U[0, 1), then N(0, 1); float32."""
    uniform = stream.derived("uniform").uniform(positions, UNIFORMS)
    return torch.cat([uniform, stream.derived("normal").normal(positions, NORMALS)], dim=1)


def warped(ink: Tensor, draws: Tensor, field: Tensor, config: AugmentationConfig) -> Tensor:
    """Turn, scale, shear, shift and bend the share `config.warp` of the images, in one bilinear sampling; outside is 0."""
    whether = (draws[:, 0] < config.warp).to(ink.dtype)
    rotation, scale, aspect, shear, dx, dy = ((2 * draws[:, 1:] - 1) * whether[:, None]).unbind(1)
    rotation, shear = rotation * config.rotation, shear * config.shear
    wide, high = (scale * config.scale + a * config.aspect for a in (aspect, -aspect))
    cos, sin, wide, high = rotation.cos(), rotation.sin(), wide.exp(), high.exp()
    matrix = torch.stack(  # rotation @ shear @ size, from where a pixel stands to where it is read
        [
            torch.stack([cos * wide, (cos * shear - sin) * high, dx * config.shift], dim=1),
            torch.stack([sin * wide, (sin * shear + cos) * high, dy * config.shift], dim=1),
        ],
        dim=1,
    )
    where = F.affine_grid(matrix, list(ink.shape), align_corners=False)
    bends = (field * config.elastic * whether[:, None]).view(-1, 2, GRID, GRID)
    bends = F.interpolate(bends, size=ink.shape[2:], mode="bilinear", align_corners=True)
    return F.grid_sample(ink, where + bends.permute(0, 2, 3, 1), align_corners=False)


def rectangle(draws: Tensor, probability: Tensor, sides: tuple[float, float], like: Tensor) -> Tensor:
    """1 within a rectangle of random sides and place, for the share `probability` of the images, else 0: [B, 1, H, W]."""
    whether = (draws[:, 0] < probability).to(like.dtype)
    shortest, longest = sides
    rows, columns = (
        _within(draws[:, place], shortest + (longest - shortest) * draws[:, side], like.shape[axis])
        for side, place, axis in ((1, 2, 2), (3, 4, 3))
    )
    return (whether[:, None, None] * rows[:, :, None] * columns[:, None, :])[:, None]


def _within(place: Tensor, side: Tensor, size: int) -> Tensor:
    """Which of `size` pixel centres lie in a stretch of length `side` that starts at `place` of what room there is: [B, size]."""
    centres = (torch.arange(size, device=place.device, dtype=place.dtype) + 0.5) / size
    start = (place * (1 - side))[:, None]
    return ((centres >= start) & (centres < start + side[:, None])).to(place.dtype)
