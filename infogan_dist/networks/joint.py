"""D scores several images together: minibatch standard deviation and packing, in plain torch. Q reads the features of single images.

    FE's features [B, C] or [B, C, H, W]
    minibatch standard deviation: one more channel
    pack: the channels of m consecutive images, [B / m, m C] or [B / m, m C, H, W]
    mix: FC or 1 x 1 conv to C channels, lReLU
    the family's D: [B / m, 1]

PacGAN (Lin et al. 2018) concatenates m images at D's input. Here FE is shared with Q, which reads single images, so features are
concatenated. The mixing layer is ours. In the families D is one linear layer: without mixing, the logit of a pack would be a sum over its
images, which does not depend on how they vary together.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from infogan_dist.config.model import NetworksConfig

LEAK = 0.2
SMALLEST_VARIANCE = 1e-8  # the derivative of a square root is infinite at 0


def minibatch_std(features: Tensor, group: int) -> Tensor:
    """The standard deviation of each feature over each `group` of consecutive images, averaged over the features: [B] from [B, ...],
    equal within a group, in float32 or higher (Karras et al. 2018, section 3). B is divisible by `group`."""
    exact = features.to(torch.promote_types(features.dtype, torch.float32)).unflatten(0, (-1, group))
    deviations: Tensor = (exact.var(1, correction=0) + SMALLEST_VARIANCE).sqrt()
    return deviations.flatten(1).mean(1).repeat_interleave(group)


class MinibatchStd(nn.Module):
    """Appends `minibatch_std` as a constant channel: [B, C, ...] -> [B, C + 1, ...]."""

    def __init__(self, group: int):
        super().__init__()
        self.group = group

    def forward(self, features: Tensor) -> Tensor:
        std = minibatch_std(features, self.group).to(features.dtype)
        column = std.view(-1, *[1] * (features.dim() - 1)).expand(-1, 1, *features.shape[2:])
        return torch.cat([features, column], dim=1)

    def extra_repr(self) -> str:
        return f"{self.group}"


class Pack(nn.Module):
    """Concatenates the channels of every `images` consecutive images: [B, C, ...] -> [B / images, images * C, ...]."""

    def __init__(self, images: int):
        super().__init__()
        self.images = images

    def forward(self, features: Tensor) -> Tensor:
        packed: Tensor = features.unflatten(0, (-1, self.images)).flatten(1, 2)
        return packed

    def extra_repr(self) -> str:
        return f"{self.images}"


def with_joint_scores(D: nn.Module, FE: nn.Module, image_shape: Sequence[int], config: NetworksConfig) -> nn.Module:
    """`D` behind the layers that `config` asks for; `D` itself if it asks for none. `FE`, on the meta device, gives features of images
    of `image_shape` [C, H, W]."""
    if config.scored_together == 1:
        return D
    with torch.no_grad():
        channels, *size = FE(torch.empty(2, *image_shape, device="meta")).shape[1:]
    layers, mixed = OrderedDict[str, nn.Module](), channels
    if config.minibatch_std:
        layers["std"] = MinibatchStd(config.minibatch_std)
        mixed += 1
    if config.pack > 1:
        layers["pack"] = Pack(config.pack)
        mixed *= config.pack
    mix = nn.Conv2d(mixed, channels, 1) if size else nn.Linear(mixed, channels)
    return nn.Sequential(layers | OrderedDict(mix=mix, mix_relu=nn.LeakyReLU(LEAK, inplace=True), head=D))
