"""T, random augmentations: differentiable functions of an image and of random numbers drawn at its global position.

Crops and colours follow SimCLR (Chen et al. 2020, appendix A). No augmentation reads a label.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from infogan_dist.config.augmentation import AugmentationConfig
from infogan_dist.randomness import Stream

GRID = 5  # points per side of the elastic field
CUT_SIDES = (4 / 28, 9 / 28)  # smallest and largest side of a cut rectangle, as a fraction of the image side
PASTE_SIDES = (4 / 28, 12 / 28)
CROP_SIDES = (0.6, 1.0)  # smallest and largest side of the part that a crop enlarges
WARP, RECTANGLE, CROP, COLOUR = 7, 5, 5, 5  # uniform numbers of each; a crop's include those of the flip
UNIFORMS, NORMALS = WARP + 2 * RECTANGLE, 2 * GRID * GRID
PADDING = {"black": "zeros", "border": "border"}  # grid_sample's word for `augmentation.outside`
# Luma and two chroma axes of RGB (FCC NTSC, 1953); grey has no chroma
TO_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


@dataclass(frozen=True)
class Augmentation:
    """One augmentation for each image of a batch, from the random numbers `draws` of `draws_at`. `strength` [] in [0, 1] scales the
    shares of cuts and pastes."""

    config: AugmentationConfig
    draws: Tensor
    strength: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        """Augmented images, [B, C, H, W] in [-1, 1] like the input. Computed in float32 or higher. Images 2i and 2i + 1 paste from
        each other, so B must be even if `config.paste` is not 0."""
        config = self.config
        with torch.autocast(images.device.type, enabled=False):
            exact = images.to(torch.promote_types(images.dtype, torch.float32))
            draws = self.draws.to(exact.dtype)
            warp, cut, paste, field, crop, colour = draws.split(
                [WARP, RECTANGLE, RECTANGLE, NORMALS, *_rest(draws)], dim=1
            )
            ink = (exact + 1) / 2  # of digits; of other images the brightness
            ink = warped(ink, warp, field, config, crop)
            if config.changes_colours:
                ink = recoloured(ink, colour, config)
            strength = self.strength.to(exact.dtype)
            black = config.outside == "black"
            if config.cut:
                where = rectangle(cut, config.cut * strength, CUT_SIDES, ink)
                ink = ink * (1 - where) if black else torch.lerp(ink, border_colour(ink), where)
            if config.paste:
                others = ink.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
                where = rectangle(paste, config.paste * strength, PASTE_SIDES, ink)
                ink = torch.maximum(ink, others * where) if black else torch.lerp(ink, others, where)
            return (2 * ink - 1).to(images.dtype)


def draws_at(stream: Stream, positions: Tensor, config: AugmentationConfig | None = None) -> Tensor:
    """The random numbers that augment the images at global `positions`, float32 [B, n]: U[0, 1), then N(0, 1), then U[0, 1) for crops
    and colours if `config` has any."""
    uniform = stream.derived("uniform").uniform(positions, UNIFORMS)
    draws = [uniform, stream.derived("normal").normal(positions, NORMALS)]
    if config is not None and (config.flip or config.crop or config.changes_colours):
        draws.append(stream.derived("objects").uniform(positions, CROP + COLOUR))
    return torch.cat(draws, dim=1)


def _rest(draws: Tensor) -> tuple[int, int]:
    """The numbers of columns for crops and colours."""
    return (CROP, COLOUR) if draws.shape[1] > UNIFORMS + NORMALS else (0, 0)


def warped(ink: Tensor, draws: Tensor, field: Tensor, config: AugmentationConfig, crop: Tensor) -> Tensor:
    """Rotate, scale, shear, shift and deform the share `config.warp` of the images, crop and flip some, with one bilinear sampling.
    The padding is 0 or the nearest border pixel."""
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
    grid = grid + elastic.permute(0, 2, 3, 1)
    if config.flip or config.crop:
        grid = _cropped(grid, crop, config)
    return F.grid_sample(ink, grid, padding_mode=PADDING[config.outside], align_corners=False)


def _cropped(grid: Tensor, draws: Tensor, config: AugmentationConfig) -> Tensor:
    """A sampling grid [B, H, W, 2] in [-1, 1] that covers a random part of the image for the share `config.crop` of the images and
    is mirrored for the share `config.flip`."""
    flip, crop, side, *offsets = draws.unbind(1)
    smallest, largest = CROP_SIDES
    side = torch.where(crop < config.crop, smallest + (largest - smallest) * side, 1.0)
    offset = torch.stack([(2 * each - 1) * (1 - side) for each in offsets], dim=1)
    grid = grid * side[:, None, None, None] + offset[:, None, None, :]
    mirrored = torch.where(flip < config.flip, -1.0, 1.0).to(grid.dtype)
    return grid * torch.stack([mirrored, torch.ones_like(mirrored)], dim=1)[:, None, None, :]


def recoloured(images: Tensor, draws: Tensor, config: AugmentationConfig) -> Tensor:
    """Images [B, C, H, W] in [0, 1] with random brightness, contrast, saturation and hue; the share `config.grey` of them is grey.
    Grey images (C = 1) change only in brightness and contrast."""
    brightness, contrast, saturation = (1 + config.jitter * (2 * draws[:, :3] - 1))[:, :, None, None, None].unbind(1)
    images = images * brightness
    if images.shape[1] == 1:
        mean = images.mean((2, 3), keepdim=True)
        return (mean + contrast * (images - mean)).clamp(0, 1)
    to_yiq = torch.tensor(TO_YIQ, device=images.device, dtype=images.dtype)
    luma, chroma = torch.einsum("yc,bchw->byhw", to_yiq, images).split([1, 2], dim=1)
    mean = luma.mean((2, 3), keepdim=True)
    luma = mean + contrast * (luma - mean)
    angle = config.hue * (2 * draws[:, 3] - 1)
    kept = (saturation * contrast).flatten() * (draws[:, 4] >= config.grey).to(images.dtype)
    cos, sin = kept * angle.cos(), kept * angle.sin()
    rotation = torch.stack([torch.stack([cos, -sin], dim=1), torch.stack([sin, cos], dim=1)], dim=1)
    chroma = torch.einsum("bxy,byhw->bxhw", rotation, chroma)
    return torch.einsum("cy,byhw->bchw", to_yiq.inverse(), torch.cat([luma, chroma], dim=1)).clamp(0, 1)


def border_colour(images: Tensor) -> Tensor:
    """The mean of the outermost pixels of each image [B, C, H, W], as [B, C, 1, 1]."""
    rows, columns = images[:, :, [0, -1]].flatten(2), images[:, :, 1:-1, [0, -1]].flatten(2)
    return torch.cat([rows, columns], dim=2).mean(2)[:, :, None, None]


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
