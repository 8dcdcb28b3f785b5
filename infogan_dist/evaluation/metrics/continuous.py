"""What a continuous code does to the pen: thickness, slant and width, measured from the pixels along its sweep.

The attributes are those of Morpho-MNIST (Castro et al. 2019, section 2.2), taken from moments and outlines of the ink instead
of a skeleton, so that they move smoothly with the pixels.
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
_PIXEL_VARIANCE = (
    1 / 12
)  # of a uniform square of side 1: a pixel has a width of its own, and a bar of width w has w² of it


@dataclass(frozen=True)
class Effect:
    """What a code does to one attribute, as means over the sweeps of many z.

    strength: |Spearman's ρ|, 1 where every sweep is monotone (chance is not 0: a few random levels correlate). signed: ρ
    itself, near ±strength where the code turns the attribute the same way for every z. change: the attribute at the last level
    less that at the first, in its unit.
    """

    strength: float
    signed: float
    change: float


def attributes(images: Tensor) -> Tensor:
    """The `ATTRIBUTES`, float64 [B, 3], of light ink on a dark ground, images [B, C, H, W] in [-1, 1].

    thickness: area over half the outline's length, in pixels: t L / (t + L) of a bar, near t of a long one. slant: the
    horizontal shift per vertical pixel as an angle, radians, positive to the right at the top. width: of the uniform bar that
    spreads horizontally as the upright digit does, in pixels.
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
    falls, runs = ink.diff(dim=1), ink.diff(dim=2)
    down, right = (falls[:, :, 1:] + falls[:, :, :-1]) / 2, (runs[:, 1:] + runs[:, :-1]) / 2  # both between four pixels
    outline = (
        (down.square() + right.square()).sqrt().sum((1, 2)).clamp(min=_NO_INK)
    )  # total variation: the coarea formula
    thickness = 2 * area / outline
    return torch.stack((thickness, shear.atan(), (upright / _PIXEL_VARIANCE).sqrt()), dim=1)


def spearman(levels: NDArray[np.float64], sweeps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spearman's ρ of the levels [L] with each sweep [S, L], ties at their mean rank; 0 where a sweep stands still."""
    x, y = rankdata(levels), rankdata(sweeps, axis=1)
    x, y = x - x.mean(), y - y.mean(axis=1, keepdims=True)
    spread = np.sqrt((x**2).sum() * (y**2).sum(axis=1))
    rho: NDArray[np.float64] = np.divide(y @ x, spread, out=np.zeros(len(y)), where=spread > 0)
    return rho


def effects(levels: Tensor, measured: Tensor) -> dict[str, Effect]:
    """By attribute, of sweeps measured as [S·L, 3]: the L levels of one z stand together, in order, all else held."""
    found = {}
    for name, values in zip(ATTRIBUTES, measured.double().cpu().unbind(1), strict=True):
        sweeps = values.view(-1, len(levels)).numpy()
        rho, change = spearman(levels.double().numpy(), sweeps), sweeps[:, -1] - sweeps[:, 0]
        found[name] = Effect(float(np.abs(rho).mean()), float(rho.mean()), float(change.mean()))
    return found


def _mean(ink: Tensor, values: Tensor, area: Tensor) -> Tensor:
    return (ink * values).sum((1, 2)) / area
