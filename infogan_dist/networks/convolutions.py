"""The convolution of both families, 4 x 4 with stride 2 and padding 1, and its transpose. They halve and double a map.

Weights and state are those of torch's `Conv2d` and `ConvTranspose2d`. On a CPU, for small maps or few channels, they are computed
as one matrix product over patches, which is several times faster.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from infogan_dist.networks.twice_differentiable import TwiceDifferentiableConv2d

KERNEL, STRIDE, PADDING = 4, 2, 1
OVERLAP = KERNEL // STRIDE  # a row of pixels is in two rows of patches
FEW_CHANNELS = 4  # an image has at most this many
SMALL_MAP = 16  # positions


class DownConv2d(TwiceDifferentiableConv2d):
    """[B, C, H, W] -> [B, O, H / 2, W / 2]."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True):
        super().__init__(in_channels, out_channels, KERNEL, STRIDE, PADDING, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(_compute_dtype(x))
        height, width = x.shape[2] // STRIDE, x.shape[3] // STRIDE
        if not _as_matrix(x, height * width, self.in_channels):
            return super().forward(_channels_last(x))
        y = F.linear(_Patches.apply(x), _patch_matrix(self.weight, x.dtype), self.bias)
        return y.view(-1, height, width, self.out_channels).permute(0, 3, 1, 2)


class ChannelsLastConv2d(TwiceDifferentiableConv2d):
    """Any other convolution: its input and output are channels-last."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(_channels_last(x))


class UpConv2d(nn.ConvTranspose2d):
    """[B, C, H, W] -> [B, O, 2 H, 2 W]."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True):
        super().__init__(in_channels, out_channels, KERNEL, STRIDE, PADDING, bias=bias)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        x = x.to(_compute_dtype(x))
        if output_size is not None or not _as_matrix(x, x.shape[2] * x.shape[3], self.out_channels):
            return super().forward(x, output_size)
        pixels, matrix = x.permute(0, 2, 3, 1).flatten(0, 2), _patch_matrix(self.weight, x.dtype)
        by_channel = self.out_channels <= FEW_CHANNELS  # the memory layout that `_AddPatches` needs, without a copy
        patches = F.linear(matrix.T, pixels).T if by_channel else pixels @ matrix
        y: Tensor = _AddPatches.apply(patches, x.shape[0], x.shape[2], x.shape[3])
        return y if self.bias is None else y + self.bias.to(y.dtype).view(-1, 1, 1)


def _compute_dtype(x: Tensor) -> torch.dtype:
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def _channels_last(x: Tensor) -> Tensor:
    """`x` in channels-last layout, which the output of a convolution inherits. With one channel the strides must be set explicitly."""
    if x.shape[1] == 1:
        return x.reshape(len(x), -1).view(len(x), *x.shape[2:], 1).permute(0, 3, 1, 2)
    return x.contiguous(memory_format=torch.channels_last)


def _as_matrix(x: Tensor, positions: int, channels: int) -> bool:
    """Whether the matrix product is faster, as measured in fp32 and bf16."""
    return x.device.type == "cpu" and (positions <= SMALL_MAP or channels <= FEW_CHANNELS)


def _patch_matrix(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """A kernel [I, J, 4, 4] as [I, 16 * J]."""
    return weight.permute(0, 2, 3, 1).to(dtype, memory_format=torch.contiguous_format).flatten(1)


class _Patches(torch.autograd.Function):
    """[B, C, H, W] -> [B * H/2 * W/2, 4 * 4 * C]: the receptive field of each output position. The adjoint of `_AddPatches`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        assert x.shape[2] % STRIDE == x.shape[3] % STRIDE == 0, "sides must be even"
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, PADDING, PADDING, PADDING, PADDING))
        rows = padded.unfold(1, KERNEL, STRIDE).unfold(2, KERNEL, STRIDE)  # [B, H/2, W/2, C, 4, 4]
        return rows.permute(0, 1, 2, 4, 5, 3).reshape(-1, KERNEL * KERNEL * x.shape[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        batch, _, height, width = ctx.shape
        return _AddPatches.apply(gradient, batch, height // STRIDE, width // STRIDE)  # type: ignore[no-any-return]


class _AddPatches(torch.autograd.Function):
    """[B * H * W, 4 * 4 * C] -> [B, C, 2 H, 2 W]: the sum of overlapping patches with stride 2. The adjoint of `_Patches`."""

    @staticmethod
    def forward(ctx: Any, patches: Tensor, batch: int, height: int, width: int) -> Tensor:
        channels, by_channel = patches.shape[1] // KERNEL**2, patches.shape[1] <= KERNEL**2 * FEW_CHANNELS
        if by_channel:  # sum one channel at a time, along rows of pixels
            patches = patches.T.contiguous().T
        # A block of 2 x 2 pixels is in the same patches, at the start or at the end of each side.
        blocks = patches.unflatten(0, (batch, height, width))
        blocks = blocks.unflatten(-1, (OVERLAP, STRIDE, OVERLAP, STRIDE, channels))
        order = (2, 4, 5, 0, 1, 3) if by_channel else (0, 1, 2, 3, 4, 5)  # of the dimensions in memory
        shape = [batch, height + 1, STRIDE, width + 1, STRIDE, channels]
        dtype = torch.promote_types(patches.dtype, torch.float32) if by_channel else patches.dtype
        total = patches.new_zeros([shape[d] for d in order], dtype=dtype).permute([order.index(d) for d in range(6)])
        for down in range(OVERLAP):
            for right in range(OVERLAP):
                block = blocks[:, :, :, down, :, right].permute(0, 1, 3, 2, 4, 5)
                total[:, down : down + height, :, right : right + width] += block
        padded = total.reshape(batch, STRIDE * (height + 1), STRIDE * (width + 1), channels)
        inner = padded[:, PADDING:-PADDING, PADDING:-PADDING].to(
            patches.dtype, memory_format=torch.contiguous_format, copy=True
        )
        return inner.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return _Patches.apply(gradient), None, None, None


class ToMap(nn.Module):
    """[B, H * W * C] -> [B, C, H, W], channels-last without a copy. `Linear` and `ToMap` are a transposed convolution of a 1 x 1 map
    as one matrix product."""

    def __init__(self, channels: int, size: int):
        super().__init__()
        self.channels, self.size = channels, size

    def forward(self, x: Tensor) -> Tensor:
        return x.view(-1, self.size, self.size, self.channels).permute(0, 3, 1, 2)

    def extra_repr(self) -> str:
        return f"{self.channels}, {self.size}"


class FromMap(nn.Module):
    """[B, C, H, W] -> [B, H * W * C], without a copy if channels-last. `FromMap` and `Linear` are a convolution whose kernel covers the
    map."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)
