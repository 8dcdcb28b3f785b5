"""The paper's MNIST networks, 28 x 28 (Chen et al. 2016, appendix C.1, Table 1), in plain torch.

    G                                   FE, with the heads D and Q
    z, c [B, 74]                        image [B, 1, 28, 28]
    FC 1024, BN, ReLU                   4 x 4 conv 64, stride 2, lReLU
    FC 7 x 7 x 128, BN, ReLU            4 x 4 conv 128, stride 2, BN, lReLU
    4 x 4 upconv 64, stride 2, BN, ReLU FC 1024, BN, lReLU
    4 x 4 upconv 1, stride 2, tanh      D: FC 1        Q: FC 128, BN, lReLU, FC

The table gives G no output activation; here it is tanh. `width` is 64 in the paper, and every other layer scales with it.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from infogan_dist.config.model import NetworksConfig
from infogan_dist.networks.norms import needs_bias, norm_1d, norm_2d

LEAK = 0.1
Q_HIDDEN = 128


def feature_dim(width: int) -> int:
    return 16 * width


def generator(config: NetworksConfig, latent_dim: int, channels: int, image_size: int) -> nn.Module:
    """[B, latent_dim] -> [B, channels, 28, 28] in [-1, 1]."""
    width, hidden, kind = config.width, feature_dim(config.width), config.norm_G
    bias = needs_bias(kind)
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            lift=nn.Linear(latent_dim, hidden, bias=bias),
            lift_norm=norm_1d(kind, hidden),
            lift_relu=nn.ReLU(inplace=True),
            spread=nn.Linear(hidden, 2 * width * 7 * 7, bias=bias),
            to_map=nn.Unflatten(1, (2 * width, 7, 7)),
            spread_norm=norm_2d(kind, 2 * width),
            spread_relu=nn.ReLU(inplace=True),
            up=nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1, bias=bias),
            up_norm=norm_2d(kind, width),
            up_relu=nn.ReLU(inplace=True),
            to_image=nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1),
            tanh=nn.Tanh(),
        )
    )


def front_end(config: NetworksConfig, channels: int, image_size: int) -> nn.Module:
    """FE: [B, channels, 28, 28] -> [B, 1024]."""
    width, hidden, kind = config.width, feature_dim(config.width), config.norm_D
    bias = needs_bias(kind)
    return nn.Sequential(
        OrderedDict(
            from_image=nn.Conv2d(channels, width, 4, stride=2, padding=1),
            from_image_relu=nn.LeakyReLU(LEAK),
            down=nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=bias),
            down_norm=norm_2d(kind, 2 * width),
            down_relu=nn.LeakyReLU(LEAK, inplace=True),
            from_map=nn.Flatten(),
            gather=nn.Linear(2 * width * 7 * 7, hidden, bias=bias),
            gather_norm=norm_1d(kind, hidden),
            gather_relu=nn.LeakyReLU(LEAK, inplace=True),
        )
    )


def discriminator(config: NetworksConfig, image_size: int) -> nn.Module:
    """D: [B, 1024] -> logit [B, 1]."""
    return nn.Sequential(OrderedDict(logit=nn.Linear(feature_dim(config.width), 1)))


def recognition(config: NetworksConfig, posterior_dim: int, image_size: int) -> nn.Module:
    """Q: [B, 1024] -> [B, posterior_dim]. With `norm_Q = family` its norm is `norm_D`."""
    kind = config.norm_D if config.norm_Q == "family" else config.norm_Q
    return nn.Sequential(
        OrderedDict(
            hidden=nn.Linear(feature_dim(config.width), Q_HIDDEN, bias=needs_bias(kind)),
            hidden_norm=norm_1d(kind, Q_HIDDEN),
            hidden_relu=nn.LeakyReLU(LEAK, inplace=True),
            posterior=nn.Linear(Q_HIDDEN, posterior_dim),
        )
    )
