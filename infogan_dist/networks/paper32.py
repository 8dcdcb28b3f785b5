"""The paper's networks for SVHN and CelebA, 32 x 32 in colour (Chen et al. 2016, appendices C.2 and C.3, Tables 2 and 3), in plain torch.

    G                                       FE, with the heads D and Q
    z, c [B, 168] SVHN, [B, 228] CelebA     image [B, 3, 32, 32]
    FC 2 x 2 x 448, BN, ReLU                4 x 4 conv 64, stride 2, lReLU
    4 x 4 upconv 256, stride 2, BN, ReLU    4 x 4 conv 128, stride 2, BN, lReLU
    4 x 4 upconv 128, stride 2, ReLU        4 x 4 conv 256, stride 2, BN, lReLU
    4 x 4 upconv 64, stride 2, ReLU         D: FC 1        Q: FC 128, BN, lReLU, FC
    4 x 4 upconv 3, stride 2, tanh

The two tables differ only in the input of G. `width` is 64 in the paper, and every layer but Q's hidden one scales with it.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from infogan_dist.config.model import NetworksConfig
from infogan_dist.networks.norms import needs_bias, norm_1d, norm_2d

LEAK = 0.1
Q_HIDDEN = 128
FEATURE_SIDE = 4  # of FE's last map


def feature_dim(width: int) -> int:
    return 4 * width * FEATURE_SIDE**2


def generator(config: NetworksConfig, latent_dim: int, channels: int, image_size: int) -> nn.Module:
    """[B, latent_dim] -> [B, channels, 32, 32] in [-1, 1]."""
    width, first, kind = config.width, 7 * config.width, config.norm_G
    bias = needs_bias(kind)
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            lift=nn.Linear(latent_dim, first * 2 * 2, bias=bias),
            to_map=nn.Unflatten(1, (first, 2, 2)),
            lift_norm=norm_2d(kind, first),
            lift_relu=nn.ReLU(inplace=True),
            up1=nn.ConvTranspose2d(first, 4 * width, 4, stride=2, padding=1, bias=bias),
            up1_norm=norm_2d(kind, 4 * width),
            up1_relu=nn.ReLU(inplace=True),
            up2=nn.ConvTranspose2d(4 * width, 2 * width, 4, stride=2, padding=1),
            up2_relu=nn.ReLU(inplace=True),
            up3=nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
            up3_relu=nn.ReLU(inplace=True),
            to_image=nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1),
            tanh=nn.Tanh(),
        )
    )


def front_end(config: NetworksConfig, channels: int, image_size: int) -> nn.Module:
    """FE: [B, channels, 32, 32] -> [B, 256, 4, 4]."""
    width, kind = config.width, config.norm_D
    bias = needs_bias(kind)
    return nn.Sequential(
        OrderedDict(
            from_image=nn.Conv2d(channels, width, 4, stride=2, padding=1),
            from_image_relu=nn.LeakyReLU(LEAK),
            down1=nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=bias),
            down1_norm=norm_2d(kind, 2 * width),
            down1_relu=nn.LeakyReLU(LEAK, inplace=True),
            down2=nn.Conv2d(2 * width, 4 * width, 4, stride=2, padding=1, bias=bias),
            down2_norm=norm_2d(kind, 4 * width),
            down2_relu=nn.LeakyReLU(LEAK, inplace=True),
        )
    )


def discriminator(config: NetworksConfig, image_size: int) -> nn.Module:
    """D: [B, 256, 4, 4] -> logit [B, 1]."""
    return nn.Sequential(OrderedDict(from_map=nn.Flatten(), logit=nn.Linear(feature_dim(config.width), 1)))


def recognition(config: NetworksConfig, posterior_dim: int, image_size: int) -> nn.Module:
    """Q: [B, 256, 4, 4] -> [B, posterior_dim]. With `norm_Q = family` its norm is `norm_D`."""
    kind = config.norm_D if config.norm_Q == "family" else config.norm_Q
    return nn.Sequential(
        OrderedDict(
            from_map=nn.Flatten(),
            hidden=nn.Linear(feature_dim(config.width), Q_HIDDEN, bias=needs_bias(kind)),
            hidden_norm=norm_1d(kind, Q_HIDDEN),
            hidden_relu=nn.LeakyReLU(LEAK, inplace=True),
            posterior=nn.Linear(Q_HIDDEN, posterior_dim),
        )
    )
