"""Networks as the page's kernel takes them: linear layers and the two convolutions, batch norm folded into them, fp16.

The kernel (`assets/kernel.js`) holds maps as [H, W, C], so the matrices of a converted network beside a map are in its order.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from infogan_dist.networks.batch_norm import BatchNorm
from infogan_dist.networks.convolutions import DownConv2d, FromMap, ToMap, UpConv2d

Kind = Literal["linear", "halving", "doubling"]
TAPS = ((3, 1), (2, 0))  # by parity of an output row: the kernel rows that two input rows, from above, meet it with


class NotForPage(Exception):
    """A page cannot compute these networks; the message says why."""


@dataclass(frozen=True)
class Layer:
    """One matrix or convolution with what follows it: y = activation(weight · x + bias)."""

    kind: Kind
    weight: Tensor
    """[outputs, ...]: inputs; 4, 4, channels of a `halving`; 4, 4, channels of a `doubling`."""
    bias: Tensor
    """[outputs]"""
    slope: float = 1.0
    """Of the activation below zero: 1 for none, 0 for a ReLU."""
    tanh: bool = False

    @property
    def inputs(self) -> int:
        """Features, or channels of a map."""
        return self.weight.shape[-1]

    def scaled(self, scale: Tensor, shift: Tensor) -> Layer:
        """The same followed by y -> scale · y + shift; both [n], where outputs run over n fastest, as channels do."""
        times = len(self.bias) // len(scale)
        scale, shift = scale.repeat(times), shift.repeat(times)
        by_output = scale.view(-1, *[1] * (self.weight.dim() - 1))
        return replace(self, weight=self.weight * by_output, bias=self.bias * scale + shift)

    def in_kernel_order(self) -> Tensor:
        """The weight in the order that the kernel reads it, flat."""
        if self.kind != "doubling":
            return self.weight.flatten()
        by_parity = self.weight[:, TAPS][:, :, :, TAPS]  # [outputs, parity, 2, parity, 2, channels]
        return by_parity.permute(1, 3, 0, 2, 4, 5).flatten()


@torch.no_grad()
def layers_of(network: nn.Module, name: str) -> list[Layer]:
    """The layers of a converted network, float32, as they compute in evaluation. Raises NotForPage."""
    layers: list[Layer] = []
    is_map = False
    for path, module in _leaves(network, name):
        last = layers[-1] if layers else None
        free = last is not None and last.slope == 1 and not last.tanh  # nothing stands between it and this module
        if isinstance(module, (nn.Linear, DownConv2d, UpConv2d)):
            layers.append(_weighted(module))
            is_map = not isinstance(module, nn.Linear)
        elif isinstance(module, BatchNorm) and free:
            assert last is not None
            scale = module.weight * torch.rsqrt(module.running_var + module.eps)
            layers[-1] = last.scaled(scale.float(), (module.bias - module.running_mean * scale).float())
        elif isinstance(module, (nn.ReLU, nn.LeakyReLU)) and free:
            assert last is not None
            layers[-1] = replace(last, slope=float(getattr(module, "negative_slope", 0)))
        elif isinstance(module, nn.Tanh) and free:
            assert last is not None
            layers[-1] = replace(last, tanh=True)
        elif isinstance(module, ToMap):
            is_map = True
        elif isinstance(module, FromMap):
            is_map = False
        elif not isinstance(module, nn.Identity) and (not isinstance(module, nn.Flatten) or is_map):
            raise NotForPage(f"{path} is a {type(module).__name__}, which the page's kernel does not compute")
    return layers


def _leaves(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    """The layers of nested `nn.Sequential`s in their order, by path."""
    if not isinstance(module, nn.Sequential):
        yield path, module
        return
    for name, child in module.named_children():
        yield from _leaves(child, f"{path}.{name}")


def _weighted(module: nn.Linear | DownConv2d | UpConv2d) -> Layer:
    weight = module.weight.detach().float()  # under a spectral norm: as it computes now
    kind: Kind = "linear"
    if isinstance(module, DownConv2d):
        kind, weight = "halving", weight.permute(0, 2, 3, 1)
    elif isinstance(module, UpConv2d):
        kind, weight = "doubling", weight.permute(1, 2, 3, 0)
    bias = torch.zeros(len(weight)) if module.bias is None else module.bias.detach().float()
    return Layer(kind, weight, bias)


def multiply_adds(layers: list[Layer], inputs: int) -> int:
    """Of one image; `inputs` is the number of values that go in."""
    total, values = 0, inputs
    for layer in layers:
        positions = 1 if layer.kind == "linear" else values // layer.inputs  # of the map that goes in
        outputs = {"linear": 1, "halving": positions // 4, "doubling": positions * 4}[layer.kind]
        total += layer.weight.numel() * (outputs if layer.kind == "halving" else positions)
        values = outputs * len(layer.bias)
    return total


def description(layers: list[Layer]) -> list[dict[str, Any]]:
    """What the kernel needs to know of each layer beside its numbers."""
    return [
        {
            "kind": layer.kind,
            "inputs": layer.inputs,
            "outputs": len(layer.bias),
            "slope": layer.slope,
            "tanh": layer.tanh,
        }
        for layer in layers
    ]


def encoded(layers: list[Layer]) -> str:
    """All biases as float32, then all weights as float16, little-endian, in base64. Raises NotForPage for a weight beyond fp16."""
    weights = torch.cat([layer.in_kernel_order() for layer in layers]).half()
    if not weights.isfinite().all():
        raise NotForPage("a weight is larger than fp16 holds")
    biases = torch.cat([layer.bias for layer in layers])
    content = biases.numpy().astype("<f4").tobytes() + weights.numpy().astype("<f2").tobytes()
    return base64.b64encode(content).decode("ascii")
