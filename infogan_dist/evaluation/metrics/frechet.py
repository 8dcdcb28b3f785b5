"""Fréchet and kernel distance of two sets of features of the reference classifier.

These are not FID and KID, which use Inception's features. Computed in float64: torchmetrics 1.9 accumulates in float32 and draws
KID's subsets from torch's global generator. A test compares both.
"""

from __future__ import annotations

import torch
from torch import Tensor

KERNEL_DEGREE = 3  # k(x, y) = (x · y / d + 1)^3 (Bińkowski et al. 2018, section 4)
_ROWS = 1024  # rows of a kernel matrix at a time, to bound the memory


def frechet_distance(ours: Tensor, theirs: Tensor) -> float:
    """|μ1 - μ2|² + tr(Σ1 + Σ2 - 2 (Σ1 Σ2)^½) of features [N, F] and [M, F] (Heusel et al. 2017, Eq. 6).

    It decreases towards its limit as the sets grow: compare only distances between sets of the same sizes.
    """
    (mean1, covariance1), (mean2, covariance2) = _moments(ours), _moments(theirs)
    values, vectors = torch.linalg.eigh(covariance1)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    # tr (Σ1 Σ2)^½ from the symmetric matrix with the same eigenvalues: real, also where a feature has no variance
    shared = torch.linalg.eigvalsh(root @ covariance2 @ root).clamp(min=0).sqrt().sum()
    distance = (mean1 - mean2).square().sum() + covariance1.trace() + covariance2.trace() - 2 * shared
    return max(0.0, float(distance))


def kernel_distance(ours: Tensor, theirs: Tensor) -> float:
    """The unbiased squared maximum mean discrepancy of features [N, F] and [M, F] (Gretton et al. 2012, Eq. 3).

    It uses the cubic kernel of Bińkowski et al. 2018 over all pairs instead of random subsets. For two samples of one
    distribution it is around 0 and may be negative.
    """
    x, y = ours.double(), theirs.double()
    within = [(_kernel_sum(z, z) - float(_kernel(z, z).sum())) / (len(z) * (len(z) - 1)) for z in (x, y)]
    return sum(within) - 2 * _kernel_sum(x, y) / (len(x) * len(y))


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    features = features.double()
    return features.mean(0), torch.cov(features.T)


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    """k of each row of x with the same row of y, [N]."""
    return ((x * y).sum(1) / x.shape[1] + 1) ** KERNEL_DEGREE


def _kernel_sum(x: Tensor, y: Tensor) -> float:
    sums = [((rows @ y.T / x.shape[1] + 1) ** KERNEL_DEGREE).sum() for rows in x.split(_ROWS)]
    return float(torch.stack(sums).sum())
