"""Fidelity and diversity as separate scores, from k-nearest-neighbour balls in features of the reference classifier."""

from __future__ import annotations

import torch
from torch import Tensor

NEIGHBOURS = 5  # Naeem et al. 2020, section 4
_ROWS = 1024  # rows of a distance matrix at a time, to bound the memory


def neighbourhood_scores(reals: Tensor, fakes: Tensor, k: int = NEIGHBOURS) -> dict[str, float]:
    """Precision, recall (Kynkäänniemi et al. 2019, Eq. 1), density and coverage (Naeem et al. 2020, Eqs. 3 and 4).

    Features are [N, F] and [M, F]. A ball's radius is the distance to its centre's k-th nearest neighbour in the same set. Its
    surface is excluded, as in Naeem's code: two identical sets score 1 in all four. Only density may exceed 1.
    """
    reals, fakes = reals.double(), fakes.double()
    real_radii, fake_radii = _radii(reals, k), _radii(fakes, k)
    real_balls = torch.zeros(len(fakes), dtype=torch.int64, device=fakes.device)  # that contain each fake
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
    # the nearest row of each row is itself
    nearest = [torch.cdist(rows, features).topk(k + 1, dim=1, largest=False) for rows in features.split(_ROWS)]
    return torch.cat([found.values[:, k] for found in nearest])
