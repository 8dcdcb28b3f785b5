"""The one convolution of both families, 4 x 4 with stride 2 and padding 1, and its transpose: they halve and double a map.

Same weights and state as torch's `Conv2d` and `ConvTranspose2d`. On a CPU, where the map is small or one side has the few channels
of an image, they are written as one matrix product over patches, which is several times faster there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

KERNEL, STRIDE, PADDING = 4, 2, 1
HALVES = KERNEL // STRIDE  # a row of pixels lies in two rows of patches
THIN = 4  # channels of an image
SMALL = 16  # positions of a map


class Halving(nn.Conv2d):
    """[B, C, H, W] -> [B, O, H / 2, W / 2]."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True):
        super().__init__(in_channels, out_channels, KERNEL, STRIDE, PADDING, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(_computed_in(x))
        height, width = x.shape[2] // STRIDE, x.shape[3] // STRIDE
        if not _as_matrix(x, height * width, self.in_channels):
            return super().forward(_channels_last(x))
        y = F.linear(_Patches.apply(x), _patch_matrix(self.weight, x.dtype), self.bias)
        return y.view(-1, height, width, self.out_channels).permute(0, 3, 1, 2)


class Doubling(nn.ConvTranspose2d):
    """[B, C, H, W] -> [B, O, 2 H, 2 W]."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True):
        super().__init__(in_channels, out_channels, KERNEL, STRIDE, PADDING, bias=bias)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        x = x.to(_computed_in(x))
        if output_size is not None or not _as_matrix(x, x.shape[2] * x.shape[3], self.out_channels):
            return super().forward(x, output_size)
        pixels, matrix = x.permute(0, 2, 3, 1).flatten(0, 2), _patch_matrix(self.weight, x.dtype)
        thin = self.out_channels <= THIN  # the layout that `_Overlap` wants, without a copy
        patches = F.linear(matrix.T, pixels).T if thin else pixels @ matrix
        y: Tensor = _Overlap.apply(patches, x.shape[0], x.shape[2], x.shape[3])
        return y if self.bias is None else y + self.bias.to(y.dtype).view(-1, 1, 1)


def _computed_in(x: Tensor) -> torch.dtype:
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def _channels_last(x: Tensor) -> Tensor:
    """So laid out, one channel too, whose strides alone would leave the layout open: a convolution takes that of its input."""
    if x.shape[1] == 1:
        return x.reshape(len(x), -1).view(len(x), *x.shape[2:], 1).permute(0, 3, 1, 2)
    return x.contiguous(memory_format=torch.channels_last)


def _as_matrix(x: Tensor, positions: int, channels: int) -> bool:
    """Whether the matrix product is faster (measured in fp32 and bf16)."""
    return x.device.type == "cpu" and (positions <= SMALL or channels <= THIN)


def _patch_matrix(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """A kernel [I, J, 4, 4] as [I, 16 * J]."""
    return weight.permute(0, 2, 3, 1).to(dtype, memory_format=torch.contiguous_format).flatten(1)


class _Patches(torch.autograd.Function):
    """[B, C, H, W] -> [B * H/2 * W/2, 4 * 4 * C]: what each position of a halving convolution sees. The adjoint of `_Overlap`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        assert x.shape[2] % STRIDE == x.shape[3] % STRIDE == 0, "maps halve evenly"
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, PADDING, PADDING, PADDING, PADDING))
        rows = padded.unfold(1, KERNEL, STRIDE).unfold(2, KERNEL, STRIDE)  # [B, H/2, W/2, C, 4, 4]
        return rows.permute(0, 1, 2, 4, 5, 3).reshape(-1, KERNEL * KERNEL * x.shape[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        batch, _, height, width = ctx.shape
        return _Overlap.apply(gradient, batch, height // STRIDE, width // STRIDE)  # type: ignore[no-any-return]


class _Overlap(torch.autograd.Function):
    """[B * H * W, 4 * 4 * C] -> [B, C, 2 H, 2 W]: patches laid out two pixels apart and added up. The adjoint of `_Patches`."""

    @staticmethod
    def forward(ctx: Any, patches: Tensor, batch: int, height: int, width: int) -> Tensor:
        channels, thin = patches.shape[1] // KERNEL**2, patches.shape[1] <= KERNEL**2 * THIN
        if thin:  # planes add up along rows of pixels
            patches = patches.T.contiguous().T
        # Two pixels a side belong together: they lie in the same patches, as the first or as the last two of these.
        parts = patches.unflatten(0, (batch, height, width)).unflatten(-1, (HALVES, STRIDE, HALVES, STRIDE, channels))
        order = (2, 4, 5, 0, 1, 3) if thin else (0, 1, 2, 3, 4, 5)  # of the dimensions in memory
        shape = [batch, height + 1, STRIDE, width + 1, STRIDE, channels]
        dtype = torch.promote_types(patches.dtype, torch.float32) if thin else patches.dtype
        total = patches.new_zeros([shape[d] for d in order], dtype=dtype).permute([order.index(d) for d in range(6)])
        for down in range(HALVES):
            for right in range(HALVES):
                part = parts[:, :, :, down, :, right].permute(0, 1, 3, 2, 4, 5)
                total[:, down : down + height, :, right : right + width] += part
        whole = total.reshape(batch, STRIDE * (height + 1), STRIDE * (width + 1), channels)
        inner = whole[:, PADDING:-PADDING, PADDING:-PADDING].to(
            patches.dtype, memory_format=torch.contiguous_format, copy=True
        )
        return inner.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return _Patches.apply(gradient), None, None, None


class ToMap(nn.Module):
    """[B, H * W * C] to [B, C, H, W], channels_last without a copy: `Linear` + `ToMap` is a transposed convolution of a
    1 x 1 map, as one matrix product."""

    def __init__(self, channels: int, size: int):
        super().__init__()
        self.channels, self.size = channels, size

    def forward(self, x: Tensor) -> Tensor:
        return x.view(-1, self.size, self.size, self.channels).permute(0, 3, 1, 2)

    def extra_repr(self) -> str:
        return f"{self.channels}, {self.size}"


class FromMap(nn.Module):
    """[B, C, H, W] to [B, H * W * C], without a copy from channels_last: `FromMap` + `Linear` is a convolution that
    covers its whole input."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)
