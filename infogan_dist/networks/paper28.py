"""The paper's MNIST networks, 28 x 28 (Chen et al. 2016, appendix C.1).

The layers the paper calls fully connected are `Linear`; ports that write them as convolutions of 1 x 1 maps hold the same weights.
`width` is 64 in the paper.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from infogan_dist.config.schema import NetworksConfig
from infogan_dist.networks.convolutions import Doubling, Halving
from infogan_dist.networks.layers import FromMap, ToMap, needs_bias, norm

LEAK = 0.1
Q_HIDDEN = 128


def feature_dim(width: int) -> int:
    return 16 * width


def generator(config: NetworksConfig, latent_dim: int, channels: int, image_size: int) -> nn.Module:
    """[B, latent_dim] -> 1024 -> 7 x 7 x 128 -> 14 x 14 x 64 -> [B, channels, 28, 28] in [-1, 1]."""
    width, hidden, kind = config.width, feature_dim(config.width), config.norm_G
    bias = needs_bias(kind)
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            lift=nn.Linear(latent_dim, hidden, bias=bias),
            lift_norm=norm(kind, hidden),
            lift_relu=nn.ReLU(inplace=True),
            spread=nn.Linear(hidden, 2 * width * 7 * 7, bias=bias),
            to_map=ToMap(2 * width, 7),
            spread_norm=norm(kind, 2 * width),
            spread_relu=nn.ReLU(inplace=True),
            up=Doubling(2 * width, width, bias=bias),
            up_norm=norm(kind, width),
            up_relu=nn.ReLU(inplace=True),
            to_image=Doubling(width, channels),
            tanh=nn.Tanh(),
        )
    )


def front_end(config: NetworksConfig, channels: int, image_size: int) -> nn.Module:
    """FE: [B, channels, 28, 28] -> 14 x 14 x 64 -> 7 x 7 x 128 -> [B, 1024]."""
    width, hidden, kind = config.width, feature_dim(config.width), config.norm_D
    bias = needs_bias(kind)
    return nn.Sequential(
        OrderedDict(
            from_image=Halving(channels, width),
            from_image_relu=nn.LeakyReLU(LEAK),
            down=Halving(width, 2 * width, bias=bias),
            down_norm=norm(kind, 2 * width),
            down_relu=nn.LeakyReLU(LEAK, inplace=True),
            from_map=FromMap(),
            gather=nn.Linear(2 * width * 7 * 7, hidden, bias=bias),
            gather_norm=norm(kind, hidden),
            gather_relu=nn.LeakyReLU(LEAK, inplace=True),
        )
    )


def discriminator(config: NetworksConfig, image_size: int) -> nn.Module:
    """D: [B, 1024] -> logit [B, 1]."""
    return nn.Sequential(OrderedDict(logit=nn.Linear(feature_dim(config.width), 1)))


def recognition(config: NetworksConfig, posterior_dim: int, image_size: int) -> nn.Module:
    """Q: [B, 1024] -> 128, batch norm and leaky ReLU applied -> [B, posterior_dim]."""
    kind = config.norm_D if config.norm_Q == "family" else config.norm_Q
    return nn.Sequential(
        OrderedDict(
            hidden=nn.Linear(feature_dim(config.width), Q_HIDDEN, bias=needs_bias(kind)),
            hidden_norm=norm(kind, Q_HIDDEN),
            hidden_relu=nn.LeakyReLU(LEAK, inplace=True),
            posterior=nn.Linear(Q_HIDDEN, posterior_dim),
        )
    )
