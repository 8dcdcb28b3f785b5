"""The effect of a continuous code on stroke thickness, slant and width, measured from the pixels of its sweep.

The attributes are those of Morpho-MNIST (Castro et al. 2019, section 2.2), computed from moments and outlines instead of a
skeleton, so that they are continuous in the pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor
from torch.nn.functional import pad

ATTRIBUTES = ("thickness", "slant", "width")
_NO_INK = 1e-6  # keeps the moments of an empty image finite
_PIXEL_VARIANCE = 1 / 12  # of a uniform square of side 1; a bar of width w has w² times this variance


@dataclass(frozen=True)
class Effect:
    """The effect of a code on one attribute, means over the sweeps of many z.

    strength: |Spearman's ρ|, 1 where every sweep is monotone; above 0 by chance, because a few random values correlate.
    signed: ρ, near ±strength where the code has the same direction for every z.
    change: the attribute at the last value of the sweep minus that at the first, in the attribute's unit.
    """

    strength: float
    signed: float
    change: float


def attributes(images: Tensor) -> Tensor:
    """The `ATTRIBUTES`, float64 [B, 3], of light strokes on black, images [B, C, H, W] in [-1, 1].

    thickness: area over half the outline's length, in pixels; t L / (t + L) for a bar of t x L, near t for a long one.
    slant: the angle of the horizontal shift per vertical pixel, in radians, positive where the top leans right.
    width: of a uniform bar with the horizontal variance of the deslanted digit, in pixels.
    """
    ink = pad(images.double().mean(1).add(1).div(2).clamp(0, 1), (1, 1, 1, 1))
    area = ink.sum((1, 2)).clamp(min=_NO_INK)
    height, width = ink.shape[1:]
    y = torch.arange(height, device=ink.device).double()[None, :, None]
    x = torch.arange(width, device=ink.device).double()[None, None, :]
    y = y - _mean(ink, y, area)[:, None, None]
    x = x - _mean(ink, x, area)[:, None, None]
    vertical, horizontal, mixed = (_mean(ink, product, area) for product in (y * y, x * x, x * y))
    shear = -mixed / vertical.clamp(min=_NO_INK)  # rows grow downwards
    upright = (horizontal - shear.square() * vertical).clamp(min=0) + _PIXEL_VARIANCE
    vertical_steps, horizontal_steps = ink.diff(dim=1), ink.diff(dim=2)
    down = (vertical_steps[:, :, 1:] + vertical_steps[:, :, :-1]) / 2  # the gradient in the middle of four pixels
    right = (horizontal_steps[:, 1:] + horizontal_steps[:, :-1]) / 2
    total_variation = (down.square() + right.square()).sqrt().sum((1, 2))
    outline = total_variation.clamp(min=_NO_INK)  # by the coarea formula
    thickness = 2 * area / outline
    return torch.stack((thickness, shear.atan(), (upright / _PIXEL_VARIANCE).sqrt()), dim=1)


def spearman(values: NDArray[np.float64], sweeps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spearman's ρ [S] of `values` [L] with each row of `sweeps` [S, L], ties at their mean rank; 0 for a constant sweep."""
    x, y = rankdata(values), rankdata(sweeps, axis=1)
    x, y = x - x.mean(), y - y.mean(axis=1, keepdims=True)
    spread = np.sqrt((x**2).sum() * (y**2).sum(axis=1))
    rho: NDArray[np.float64] = np.divide(y @ x, spread, out=np.zeros(len(y)), where=spread > 0)
    return rho


def effects(values: Tensor, measured: Tensor) -> dict[str, Effect]:
    """The effect on each attribute, of sweeps measured as [S·L, 3]: for each z, its L values of the code in order."""
    found = {}
    for name, column in zip(ATTRIBUTES, measured.double().cpu().unbind(1), strict=True):
        sweeps = column.view(-1, len(values)).numpy()
        rho, change = spearman(values.double().numpy(), sweeps), sweeps[:, -1] - sweeps[:, 0]
        found[name] = Effect(float(np.abs(rho).mean()), float(rho.mean()), float(change.mean()))
    return found


def _mean(ink: Tensor, values: Tensor, area: Tensor) -> Tensor:
    return (ink * values).sum((1, 2)) / area
