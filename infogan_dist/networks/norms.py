"""Normalisation layers by name, in plain torch. `convert` makes batch norm global; spectral norm is added to the weights later."""

from __future__ import annotations

from torch import nn

from infogan_dist.config.section import NormD

BATCH_NORMS = ("batch", "batch_local")


def norm_1d(kind: NormD, features: int) -> nn.Module:
    """Batch norm of vectors [B, features], or the identity for other kinds."""
    return nn.BatchNorm1d(features) if kind in BATCH_NORMS else nn.Identity()


def norm_2d(kind: NormD, channels: int) -> nn.Module:
    """Batch norm of maps [B, channels, H, W], or the identity for other kinds."""
    return nn.BatchNorm2d(channels) if kind in BATCH_NORMS else nn.Identity()


def needs_bias(kind: NormD) -> bool:
    """Whether the layer before this norm needs a bias. A batch norm would subtract it."""
    return kind not in BATCH_NORMS
