"""Fidelity and diversity apart: whose samples lie within whose k-nearest-neighbour balls, in the classifier's features."""

from __future__ import annotations

import torch
from torch import Tensor

NEIGHBOURS = 5  # Naeem et al. 2020, section 4
_ROWS = 1024  # rows of a distance matrix at a time, to bound the memory


def neighbourhood_scores(reals: Tensor, fakes: Tensor, k: int = NEIGHBOURS) -> dict[str, float]:
    """Precision, recall (Kynkäänniemi et al. 2019, Eq. 1), density and coverage (Naeem et al. 2020, Eqs. 3 and 4).

    Features are [N, F] and [M, F]. A ball reaches to its centre's k-th nearest neighbour in its own set, its surface left out
    as in Naeem's code: two identical sets score 1 four times. Density alone may exceed 1.
    """
    reals, fakes = reals.double(), fakes.double()
    real_radii, fake_radii = _radii(reals, k), _radii(fakes, k)
    real_balls = torch.zeros(len(fakes), dtype=torch.int64, device=fakes.device)  # that each fake lies in
    covered, recalled = [], []
    for rows, radii in zip(reals.split(_ROWS), real_radii.split(_ROWS), strict=True):
        distances = torch.cdist(rows, fakes)
        inside = distances < radii[:, None]
        real_balls += inside.sum(0)
        covered.append(inside.any(1))
        recalled.append((distances < fake_radii).any(1))
    return {
        "precision": (real_balls > 0).double().mean().item(),
        "recall": torch.cat(recalled).double().mean().item(),
        "density": real_balls.double().mean().item() / k,
        "coverage": torch.cat(covered).double().mean().item(),
    }


def _radii(features: Tensor, k: int) -> Tensor:
    """The distance of each row to its k-th nearest other row, [N]."""
    # the nearest of all rows is the row itself
    nearest = [torch.cdist(rows, features).topk(k + 1, dim=1, largest=False) for rows in features.split(_ROWS)]
    return torch.cat([found.values[:, k] for found in nearest])
