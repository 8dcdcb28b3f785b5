"""Convolutions with a fast second derivative, for gradient penalties.

The second derivative in torch computes the gradient of a weight by correlating whole maps, group by group. Here it is computed as in
the first derivative, which gives the same numbers up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

CONVOLUTION_BACKWARD = torch.ops.aten.convolution_backward


class Geometry(NamedTuple):
    """How a convolution moves over the map."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    def gradients(self, dy: Tensor, x: Tensor, weight: Tensor, wanted: tuple[bool, bool]) -> tuple[Tensor, Tensor]:
        """The gradients of x and of the weight, each empty unless `wanted`, from the gradient of the output."""
        moves = self.stride, self.padding, self.dilation
        dx, dw, _ = CONVOLUTION_BACKWARD(dy, x, weight, None, *moves, False, [0, 0], self.groups, [*wanted, False])
        return dx, dw


class TwiceDifferentiableConv2d(nn.Conv2d):
    """nn.Conv2d. Within `differentiated_twice` its second derivative is fast."""

    differentiated_twice = False

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not self.differentiated_twice or self.padding_mode != "zeros" or isinstance(self.padding, str):
            y: Tensor = super()._conv_forward(x, weight, bias)
            return y
        y = _Convolution.apply(x, weight, Geometry(self.stride, self.padding, self.dilation, self.groups))
        return y if bias is None else y + bias.view(-1, 1, 1)


@contextmanager
def differentiated_twice(network: nn.Module) -> Iterator[None]:
    """Within, the output of `network` can be differentiated twice fast. The first derivative, with `create_graph`, must be that of its
    input alone: it gives no gradients of weights."""
    convolutions = [module for module in network.modules() if isinstance(module, TwiceDifferentiableConv2d)]
    try:
        for module in convolutions:
            module.differentiated_twice = True
        yield
    finally:
        for module in convolutions:
            module.differentiated_twice = False


class _Convolution(torch.autograd.Function):
    """[B, I, H, W] and a weight [O, I / groups, k, k] -> [B, O, H', W']."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        return torch.conv2d(x, weight, None, *geometry)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph
            return _InputGradient.apply(dy, x, weight, ctx.geometry), None, None
        return *ctx.geometry.gradients(dy, x, weight, ctx.needs_input_grad[:2]), None


class _InputGradient(torch.autograd.Function):
    """The gradient of a convolution's input as a function of the output's gradient and the weight."""

    @staticmethod
    def forward(ctx: Any, dy: Tensor, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(dy, weight)
        ctx.geometry = geometry
        return geometry.gradients(dy, x, weight, (True, False))[0]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, ddx: Tensor) -> tuple[Tensor, None, Tensor | None, None]:
        dy, weight = ctx.saved_tensors
        of_weight = ctx.geometry.gradients(dy, ddx, weight, (False, True))[1] if ctx.needs_input_grad[2] else None
        return torch.conv2d(ddx, weight, None, *ctx.geometry), None, of_weight, None
