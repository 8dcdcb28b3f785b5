"""The normalisation that a config names, in plain torch: `convert` makes batch norm global and puts the spectral norm around weights."""

from __future__ import annotations

from torch import nn

from infogan_dist.config.section import NormD

BATCH_NORMS = ("batch", "batch_local")


def norm_1d(kind: NormD, features: int) -> nn.Module:
    """Of vectors [B, features]; nothing where the config names no batch norm."""
    return nn.BatchNorm1d(features) if kind in BATCH_NORMS else nn.Identity()


def norm_2d(kind: NormD, channels: int) -> nn.Module:
    """Of maps [B, channels, H, W]; nothing where the config names no batch norm."""
    return nn.BatchNorm2d(channels) if kind in BATCH_NORMS else nn.Identity()


def needs_bias(kind: NormD) -> bool:
    """Whether the layer before this norm needs a bias: a batch norm subtracts it again."""
    return kind not in BATCH_NORMS
