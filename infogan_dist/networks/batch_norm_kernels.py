"""Kernels of batch norm, before and after the exchange of statistics between processes, for CPUs and CUDA.

Both classes compute the same functions of a list of batches [B, C, ...]. Each batch has one row in `means`, `variances` (biased)
and `sums`. `total` adds this process's sums to those of the other processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

Total = Callable[[Tensor], Tensor]


class Norm(Protocol):
    """The attributes of a batch norm that the kernels read. `parts` is the number of processes that share each batch."""

    momentum: float
    eps: float
    parts: int
    running_mean: Any
    running_var: Any


class CPUKernels:
    """torch's kernels for given statistics, plus the gradient through these statistics."""

    @staticmethod
    def statistics(batches: Sequence[Tensor], norm: Norm) -> tuple[Tensor, Tensor]:
        """Mean and biased variance of this process's part of each batch, [batches, C] each, in float32 or higher."""
        scratch = norm.running_mean.clone(), norm.running_var.clone()  # the kernel sums in their precision
        parts = [torch.batch_norm_update_stats(batch, *scratch, norm.momentum) for batch in batches]
        means, variances = (torch.stack(each) for each in zip(*parts, strict=True))
        return means, variances

    @staticmethod
    def normalised(x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        """Normalise one batch."""
        return F.batch_norm(x, mean, variance, weight, bias, eps=eps)

    @staticmethod
    def gradients(
        batches: Sequence[tuple[Tensor, Tensor]],
        means: Tensor,
        variances: Tensor,
        weight: Tensor,
        norm: Norm,
        total: Total,
    ) -> tuple[list[Tensor], Tensor]:
        """dx of each batch (x, dy), and `sums` [batches, 2, C], the gradients of weight and bias from each batch."""
        rows = [(x, dy, mean, variance) for (x, dy), mean, variance in zip(batches, means, variances, strict=True)]
        for_constant_statistics = [
            torch.ops.aten.native_batch_norm_backward(
                dy, x, weight, mean, variance, None, None, False, norm.eps, [True, True, True]
            )
            for x, dy, mean, variance in rows
        ]
        dxs = [dx for dx, _, _ in for_constant_statistics]
        sums = torch.stack([torch.stack([dweight, dbias]) for _, dweight, dbias in for_constant_statistics])
        first = batches[0][0]
        count = first.numel() / first.shape[1] * norm.parts
        through_statistics = (weight * torch.rsqrt(variances + norm.eps) / count)[:, None] * total(sums)
        for dx, (x, _, mean, variance), (d_variance, d_mean) in zip(dxs, rows, through_statistics, strict=True):
            dx -= F.batch_norm(x, mean, variance, d_variance.to(weight), d_mean.to(weight), eps=norm.eps)
        return dxs, sums


class CUDAKernels:
    """The operations of torch's SyncBatchNorm, called as it calls them (torch/nn/modules/_functions.py).

    `native_batch_norm_backward` in evaluation mode asserts on CUDA for channels-last inputs. No call waits for the device, and
    all can be recorded in a CUDA graph.
    """

    @staticmethod
    def statistics(batches: Sequence[Tensor], norm: Norm) -> tuple[Tensor, Tensor]:
        parts = [torch.batch_norm_stats(_dense(batch), norm.eps) for batch in batches]
        means, invstds = (torch.stack(each) for each in zip(*parts, strict=True))  # invstd = 1 / sqrt(variance + eps)
        return means, (invstds.square().reciprocal() - norm.eps).clamp_min(0)

    @staticmethod
    def normalised(x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        return torch.batch_norm_elemt(_dense(x), weight, bias, mean, torch.rsqrt(variance + eps), eps)

    @staticmethod
    def gradients(
        batches: Sequence[tuple[Tensor, Tensor]],
        means: Tensor,
        variances: Tensor,
        weight: Tensor,
        norm: Norm,
        total: Total,
    ) -> tuple[list[Tensor], Tensor]:
        invstds = torch.rsqrt(variances + norm.eps)
        # the channels-last kernels need x and dy in one layout
        pairs = [(dense := _dense(x), dy.contiguous(memory_format=_layout(dense))) for x, dy in batches]
        rows = list(zip(pairs, means, invstds, strict=True))
        reduced = [
            torch.batch_norm_backward_reduce(dy, x, mean, invstd, weight, True, False, False)[:2]
            for (x, dy), mean, invstd in rows
        ]
        sums = torch.stack([torch.stack([sum_dy_xmu, sum_dy]) for sum_dy, sum_dy_xmu in reduced])  # xmu = x - mean
        totals = total(sums)
        first = pairs[0][0]
        counts = torch.full((norm.parts,), first.numel() // first.shape[1], dtype=torch.int32, device=first.device)
        dx = [
            torch.batch_norm_backward_elemt(dy, x, mean, invstd, weight.to(mean.dtype), sum_dy, sum_dy_xmu, counts)
            for ((x, dy), mean, invstd), (sum_dy_xmu, sum_dy) in zip(rows, totals, strict=True)
        ]
        return dx, torch.stack([sums[:, 0] * invstds, sums[:, 1]], dim=1).to(weight.dtype)


def kernels_for(device: torch.device) -> type[CPUKernels] | type[CUDAKernels]:
    return CUDAKernels if device.type == "cuda" else CPUKernels


def _layout(x: Tensor) -> torch.memory_format:
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format


def _dense(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=_layout(x))
