"""The lab report's networks: DCGAN (Radford et al. 2016) for 32, 64, 128 and 256 pixels. Maps are halved down to 4 x 4 and back up.

At 64 pixels and width 64: z [B, 64, 1, 1] -> 512 x 4 x 4 -> 256 -> 128 -> 64 -> image; FE out [B, 512, 4, 4], D [B, 1], Q [B, 10].
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

from torch import nn

from infogan_dist.config.model import NetworksConfig
from infogan_dist.networks.norms import needs_bias, norm_1d, norm_2d

LEAK = 0.2
Q_HIDDEN = 100
BASE = 4  # side of the smallest map
LARGEST_MULTIPLE = 8  # of the width, reached at 64 pixels and repeated for larger images


def map_channels(width: int, image_size: int) -> list[int]:
    """Channels of FE's maps, the largest map first: [64, 128, 256, 512] at 64 pixels and width 64."""
    halvings = (image_size // BASE).bit_length() - 1
    return [width * min(2**i, LARGEST_MULTIPLE) for i in range(halvings)]


def generator(config: NetworksConfig, latent_dim: int, channels: int, image_size: int) -> nn.Module:
    """[B, latent_dim] or [B, latent_dim, 1, 1] -> [B, channels, image_size, image_size] in [-1, 1]."""
    kind, bias = config.norm_G, needs_bias(config.norm_G)
    widths = map_channels(config.width, image_size)[::-1]
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        flatten=nn.Flatten(),
        lift=nn.Linear(latent_dim, widths[0] * BASE * BASE, bias=bias),
        to_map=nn.Unflatten(1, (widths[0], BASE, BASE)),
        lift_norm=norm_2d(kind, widths[0]),
        lift_relu=nn.ReLU(inplace=True),
    )
    for i, (wide, narrow) in enumerate(pairwise(widths), 1):
        layers[f"up{i}"] = nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1, bias=bias)
        layers[f"up{i}_norm"] = norm_2d(kind, narrow)
        layers[f"up{i}_relu"] = nn.ReLU(inplace=True)
    layers["to_image"] = nn.ConvTranspose2d(widths[-1], channels, 4, stride=2, padding=1)
    layers["tanh"] = nn.Tanh()
    return nn.Sequential(layers)


def front_end(config: NetworksConfig, channels: int, image_size: int) -> nn.Module:
    """FE: [B, channels, image_size, image_size] -> [B, C, 4, 4], C = 8 * width from 64 pixels."""
    kind, bias = config.norm_D, needs_bias(config.norm_D)
    widths = map_channels(config.width, image_size)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        from_image=nn.Conv2d(channels, widths[0], 4, stride=2, padding=1), from_image_relu=nn.LeakyReLU(LEAK)
    )
    for i, (narrow, wide) in enumerate(pairwise(widths), 1):
        layers[f"down{i}"] = nn.Conv2d(narrow, wide, 4, stride=2, padding=1, bias=bias)
        layers[f"down{i}_norm"] = norm_2d(kind, wide)
        layers[f"down{i}_relu"] = nn.LeakyReLU(LEAK, inplace=True)
    return nn.Sequential(layers)


def discriminator(config: NetworksConfig, image_size: int) -> nn.Module:
    """D: FE's map -> logit [B, 1]."""
    return nn.Sequential(OrderedDict(from_map=nn.Flatten(), logit=nn.Linear(_feature_dim(config, image_size), 1)))


def recognition(config: NetworksConfig, posterior_dim: int, image_size: int) -> nn.Module:
    """Q: FE's map -> 100 hidden units, norm, leaky ReLU -> [B, posterior_dim]. The report's Q has no norm."""
    kind = "none" if config.norm_Q == "family" else config.norm_Q
    return nn.Sequential(
        OrderedDict(
            from_map=nn.Flatten(),
            hidden=nn.Linear(_feature_dim(config, image_size), Q_HIDDEN, bias=needs_bias(kind)),
            hidden_norm=norm_1d(kind, Q_HIDDEN),
            hidden_relu=nn.LeakyReLU(LEAK, inplace=True),
            posterior=nn.Linear(Q_HIDDEN, posterior_dim),
        )
    )


def _feature_dim(config: NetworksConfig, image_size: int) -> int:
    return map_channels(config.width, image_size)[-1] * BASE * BASE
