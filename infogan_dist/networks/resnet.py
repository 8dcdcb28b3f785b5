"""Residual networks after R3GAN (Huang et al. 2024, section 4) for 32 to 256 pixels, in plain torch, without normalisation.

    G                                       FE, with the heads D and Q
    z, c -> FC, map of 4 x 4                image -> 1 x 1 conv
    2 residual blocks a stage               2 residual blocks a stage
    between stages: doubled, 1 x 1 conv     between stages: halved, 1 x 1 conv
    1 x 1 conv, tanh                        D: FC 1        Q: FC 100, lReLU, FC

A block is x + f(x), where f is 1 x 1 conv to twice the channels, lReLU, 3 x 3 conv in groups of 16 channels, lReLU, 1 x 1 conv.
Maps are doubled and halved by bilinear interpolation. At 64 pixels and width 64 FE's maps have 16, 32, 64, 128 and 256 channels.
Unlike R3GAN, G ends in tanh, D's head has no depthwise convolution, and widths are chosen for about the operations of dcgan.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from itertools import pairwise

import torch
from torch import Tensor, nn

from infogan_dist.config.model import NetworksConfig

LEAK = 0.2
BLOCKS = 2  # a stage
EXPANSION = 2
GROUP = 16  # channels
CONVOLUTIONS = 3  # of a block
BASE = 4  # side of the smallest map
Q_HIDDEN = 100
LARGEST_MULTIPLE = 8  # of the width


class Residual(nn.Module):
    """x + f(x), [B, C, H, W]."""

    def __init__(self, channels: int):
        super().__init__()
        inner = EXPANSION * channels
        self.branch = nn.Sequential(
            OrderedDict(
                expand=nn.Conv2d(channels, inner, 1),
                expand_relu=nn.LeakyReLU(LEAK, inplace=True),
                grouped=nn.Conv2d(inner, inner, 3, padding=1, groups=inner // math.gcd(inner, GROUP)),
                grouped_relu=nn.LeakyReLU(LEAK, inplace=True),
                shrink=nn.Conv2d(inner, channels, 1, bias=False),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.branch(x)
        return y


class Double(nn.Module):
    """[B, C, H, W] -> [B, C, 2 H, 2 W], as nn.Upsample with bilinear interpolation, whose backward pass is not deterministic on GPUs."""

    def forward(self, x: Tensor) -> Tensor:
        rows = x.permute(0, 2, 3, 1)  # channels-last, as convolutions have it
        return _doubled(_doubled(rows, 1), 2).permute(0, 3, 1, 2)


def _doubled(x: Tensor, dim: int) -> Tensor:
    size = x.shape[dim]
    before = torch.cat([x.narrow(dim, 0, 1), x.narrow(dim, 0, size - 1)], dim)
    after = torch.cat([x.narrow(dim, 1, size - 1), x.narrow(dim, size - 1, 1)], dim)
    return torch.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], dim + 1).flatten(dim, dim + 1)


def map_channels(width: int, image_size: int) -> list[int]:
    """Channels of FE's maps, the largest map first."""
    stages = (image_size // BASE).bit_length()
    return [max(1, min(width * 2**i // 4, LARGEST_MULTIPLE * width)) for i in range(stages)]


def generator(config: NetworksConfig, latent_dim: int, channels: int, image_size: int) -> nn.Module:
    """[B, latent_dim] -> [B, channels, image_size, image_size] in [-1, 1]."""
    widths = map_channels(config.width, image_size)[::-1]
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        flatten=nn.Flatten(),
        lift=nn.Linear(latent_dim, widths[0] * BASE * BASE),
        to_map=nn.Unflatten(1, (widths[0], BASE, BASE)),
        stage0=_stage(widths[0]),
    )
    for i, (wide, narrow) in enumerate(pairwise(widths), 1):
        layers[f"project{i}"] = nn.Conv2d(wide, narrow, 1)
        layers[f"double{i}"] = Double()
        layers[f"stage{i}"] = _stage(narrow)
    layers["to_image"] = nn.Conv2d(widths[-1], channels, 1)
    layers["tanh"] = nn.Tanh()
    return nn.Sequential(layers)


def front_end(config: NetworksConfig, channels: int, image_size: int) -> nn.Module:
    """FE: [B, channels, image_size, image_size] -> [B, C, 4, 4]."""
    widths = map_channels(config.width, image_size)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        from_image=nn.Conv2d(channels, widths[0], 1), stage0=_stage(widths[0])
    )
    for i, (narrow, wide) in enumerate(pairwise(widths), 1):
        layers[f"halve{i}"] = nn.AvgPool2d(2)  # bilinear interpolation at half the size
        layers[f"project{i}"] = nn.Conv2d(narrow, wide, 1)
        layers[f"stage{i}"] = _stage(wide)
    return nn.Sequential(layers)


def discriminator(config: NetworksConfig, image_size: int) -> nn.Module:
    """D: FE's map -> logit [B, 1]."""
    return nn.Sequential(OrderedDict(from_map=nn.Flatten(), logit=nn.Linear(_feature_dim(config, image_size), 1)))


def recognition(config: NetworksConfig, posterior_dim: int, image_size: int) -> nn.Module:
    """Q: FE's map -> 100 hidden units, leaky ReLU -> [B, posterior_dim]."""
    return nn.Sequential(
        OrderedDict(
            from_map=nn.Flatten(),
            hidden=nn.Linear(_feature_dim(config, image_size), Q_HIDDEN),
            hidden_relu=nn.LeakyReLU(LEAK, inplace=True),
            posterior=nn.Linear(Q_HIDDEN, posterior_dim),
        )
    )


def initial_std(network: nn.Module, path: str, weight: Tensor) -> float:
    """The standard deviation of a layer's initial weights: fix-up initialisation (Zhang et al. 2019). Each block is the identity at
    first, and the other weights of the L blocks of a network have He's (He et al. 2015) times L^(-1 / (2m - 2)) for m convolutions."""
    *_, block, layer = ("", *path.split("."))
    fan_in = weight[0].numel()
    if block != "branch":
        return 1 / math.sqrt(fan_in)
    if layer == "shrink":
        return 0.0
    blocks = sum(isinstance(module, Residual) for module in network.modules())
    he = math.sqrt(2 / (1 + LEAK**2) / fan_in)
    return float(he * blocks ** (-1 / (2 * CONVOLUTIONS - 2)))


def _stage(channels: int) -> nn.Module:
    return nn.Sequential(OrderedDict((f"block{i}", Residual(channels)) for i in range(BLOCKS)))


def _feature_dim(config: NetworksConfig, image_size: int) -> int:
    return map_channels(config.width, image_size)[-1] * BASE * BASE
