"""Continuous codes and stroke thickness, slant and width: the effect on G's images, and the correlation on test digits.

The attributes are those of Morpho-MNIST (Castro et al. 2019, section 2.2), computed from moments and outlines instead of a
skeleton, so that they are continuous in the pixels.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor
from torch.nn.functional import pad

from infogan_dist.data.sources import scaled
from infogan_dist.distributed.group import Group
from infogan_dist.evaluation.evaluated_model import EvaluatedModel
from infogan_dist.evaluation.metric_values import Metrics
from infogan_dist.evaluation.reals import Reals
from infogan_dist.registry.data_sets import DATA_SETS
from infogan_dist.sampling.batches import batches_of

SWEEPS = 256  # draws of z for which each continuous code is swept
VALUES = 9  # values of the code in a sweep, from -1 to 1

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


def continuous_effect(model: EvaluatedModel, reals: Reals, group: Group) -> Metrics:
    """`continuous_effect`: the `Effect` of each continuous code on each attribute of G's images, z and the other codes held."""
    spec = model.spec
    if not DATA_SETS[reals.data.name].handwritten_digits or not spec.continuous:
        return {}
    found = {}
    for name in spec.continuous_names:
        values = spec.sweep_values(name, VALUES)

        def measure(ours: Tensor, name: str = name, values: Tensor = values) -> Tensor:
            swept = model.latents(ours // VALUES, **{name: values[ours % VALUES]})
            return attributes(model.draw(spec.vector(swept)))

        count = SWEEPS * VALUES
        measured = group.map_batches(batches_of(count), measure)[:count]
        found[name] = {attribute: asdict(effect) for attribute, effect in effects(values, measured).items()}
    return {"continuous_effect": found}


def continuous_on_reals(model: EvaluatedModel, reals: Reals, group: Group) -> Metrics:
    """`continuous_on_reals`: Spearman's ρ of Q's mean of each continuous code with each attribute of test digits, within a digit."""
    names, labels = model.spec.continuous_names, reals.test_labels
    if not DATA_SETS[reals.data.name].handwritten_digits or labels is None or not names:
        return {}
    count = len(reals.test)

    def measure(ours: Tensor) -> Tensor:
        return attributes(scaled(reals.test.read(ours)).to(group.device))

    measured = group.map_batches(batches_of(count), measure)[:count].cpu()
    rho = correlations(model.posteriors(reals.test, group).mean, measured, labels)
    return {
        "continuous_on_reals": {
            name: dict(zip(ATTRIBUTES, row.tolist(), strict=True)) for name, row in zip(names, rho, strict=True)
        }
    }


def correlations(codes: Tensor, measured: Tensor, labels: Tensor) -> NDArray[np.float64]:
    """Spearman's ρ [n, 3] of codes [N, n] with the attributes [N, 3], computed within each label and averaged over the labels.

    Over all digits together a code would correlate with an attribute because both follow the digit: a 1 is narrow.
    """
    means = []
    for label in labels.unique():
        values, columns = codes[labels == label].numpy(), measured[labels == label].T.numpy()
        means.append(np.stack([spearman(column, columns) for column in values.T]))
    rho: NDArray[np.float64] = np.mean(means, axis=0)
    return rho


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
