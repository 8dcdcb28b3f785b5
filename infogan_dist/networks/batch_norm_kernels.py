"""Batch norm's kernels around the exchange of statistics between processes, for CPUs and for CUDA.

Both classes compute the same functions of a list of batches [B, C, ...]. Each batch has its own row in `means`, `variances`
(biased) and `sums`. `total` turns this process's sums into those of all processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

Total = Callable[[Tensor], Tensor]


class Norm(Protocol):
    """What the kernels read of a batch norm; `parts` is the number of processes that share each batch."""

    momentum: float
    eps: float
    parts: int
    running_mean: Any
    running_var: Any


class CPUKernels:
    """torch's kernels for given statistics, corrected for the derivatives of these statistics."""

    @staticmethod
    def statistics(batches: Sequence[Tensor], norm: Norm) -> tuple[Tensor, Tensor]:
        """Mean and biased variance of this process's part of each batch, [batches, C] each, in float32 at least."""
        scratch = norm.running_mean.clone(), norm.running_var.clone()  # in their precision the kernel keeps its sums
        parts = [torch.batch_norm_update_stats(batch, *scratch, norm.momentum) for batch in batches]
        means, variances = (torch.stack(each) for each in zip(*parts, strict=True))
        return means, variances

    @staticmethod
    def normalised(x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        """y of one batch."""
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
        """The gradient of each batch from its (x, dy), and `sums` [batches, 2, C]: the gradients of weight and bias by batch."""
        apart = [(x, dy, mean, variance) for (x, dy), mean, variance in zip(batches, means, variances, strict=True)]
        known = [
            torch.ops.aten.native_batch_norm_backward(
                dy, x, weight, mean, variance, None, None, False, norm.eps, [True, True, True]
            )
            for x, dy, mean, variance in apart
        ]
        sums = torch.stack([torch.stack([dweight, dbias]) for _, dweight, dbias in known])
        first = batches[0][0]
        count = first.numel() / first.shape[1] * norm.parts
        by_statistics = (weight * torch.rsqrt(variances + norm.eps) / count)[:, None] * total(sums)
        for (x, _, mean, variance), (dx, _, _), (by_variance, by_mean) in zip(apart, known, by_statistics, strict=True):
            dx -= F.batch_norm(x, mean, variance, by_variance.to(weight), by_mean.to(weight), eps=norm.eps)
        return [dx for dx, _, _ in known], sums


class CUDAKernels:
    """The operations of torch's SyncBatchNorm, called as it calls them (torch/nn/modules/_functions.py).

    `native_batch_norm_backward` in evaluation mode asserts on CUDA for channels-last inputs. No call waits for the device, and
    all can be recorded in a CUDA graph.
    """

    @staticmethod
    def statistics(batches: Sequence[Tensor], norm: Norm) -> tuple[Tensor, Tensor]:
        parts = [torch.batch_norm_stats(_dense(batch), norm.eps) for batch in batches]
        means, deviations = (
            torch.stack(each) for each in zip(*parts, strict=True)
        )  # deviations: 1 / sqrt(variance + eps)
        return means, (deviations.square().reciprocal() - norm.eps).clamp_min(0)

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
        deviations = torch.rsqrt(variances + norm.eps)
        # the kernels for channels-last read both tensors in that layout
        apart = [(dense := _dense(x), dy.contiguous(memory_format=_layout(dense))) for x, dy in batches]
        given = list(zip(apart, means, deviations, strict=True))
        reduced = [
            torch.batch_norm_backward_reduce(dy, x, mean, deviation, weight, True, False, False)[:2]
            for (x, dy), mean, deviation in given
        ]
        sums = torch.stack([torch.stack([dot, plain]) for plain, dot in reduced])  # of dy (x - mean) and of dy
        totals = total(sums)
        first = apart[0][0]
        counts = torch.full((norm.parts,), first.numel() // first.shape[1], dtype=torch.int32, device=first.device)
        dx = [
            torch.batch_norm_backward_elemt(dy, x, mean, deviation, weight.to(mean.dtype), plain, dot, counts)
            for ((x, dy), mean, deviation), (dot, plain) in zip(given, totals, strict=True)
        ]
        return dx, torch.stack([sums[:, 0] * deviations, sums[:, 1]], dim=1).to(weight.dtype)


def kernels_for(device: torch.device) -> type[CPUKernels] | type[CUDAKernels]:
    return CUDAKernels if device.type == "cuda" else CPUKernels


def _layout(x: Tensor) -> torch.memory_format:
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format


def _dense(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=_layout(x))
