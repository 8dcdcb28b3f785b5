"""The generator that two ports of the paper's MNIST experiment share, rebuilt from its layers, as if it had trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LATENTS = 74  # 62 of noise, ten classes, two continuous codes
NATSU = {"0": "tconv1", "1": "bn1", "3": "tconv2", "4": "bn2", "6": "tconv3", "7": "bn3", "9": "tconv4"}


def generator() -> nn.Sequential:
    """Latents [B, 74, 1, 1] to images [B, 1, 28, 28] in [0, 1]; no convolution has a bias."""
    network = nn.Sequential(
        *(nn.ConvTranspose2d(LATENTS, 1024, 1, 1, bias=False), nn.BatchNorm2d(1024), nn.ReLU()),
        *(nn.ConvTranspose2d(1024, 128, 7, 1, bias=False), nn.BatchNorm2d(128), nn.ReLU()),
        *(nn.ConvTranspose2d(128, 64, 4, 2, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU()),
        *(nn.ConvTranspose2d(64, 1, 4, 2, padding=1, bias=False), nn.Sigmoid()),
    )
    draws = torch.Generator().manual_seed(0)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            tensor.uniform_(-1, 1, generator=draws).div_(tensor[0].numel() ** 0.5)
        if name.endswith("running_var"):
            tensor.add_(2)
    return network.eval().requires_grad_(False)


def natsu_state(network: nn.Module) -> dict[str, Tensor]:
    """Its tensors under the names of Natsu6767/InfoGAN-PyTorch."""
    split = ((*key.split("."), tensor) for key, tensor in network.state_dict().items())
    return {f"{NATSU[layer]}.{name}": tensor for layer, name, tensor in split}


def pianomania_state(network: nn.Module) -> dict[str, Tensor]:
    """Its tensors under the names of pianomania/infoGAN-pytorch."""
    return {f"main.{key}": tensor for key, tensor in network.state_dict().items()}


def in_our_range(network: nn.Module, vector: Tensor) -> Tensor:
    """The port's images of latents [B, 74], in [-1, 1]."""
    images: Tensor = 2 * network(vector[:, :, None, None]) - 1
    return images
