"""Batch norm over the global batch. torch's SyncBatchNorm has no double backward and does not run on CPUs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from infogan_dist.networks.batch_norm_kernels import kernels_for


class BatchNorm(nn.Module):
    """Batch norm over all dimensions but the second (Ioffe & Szegedy 2015), with statistics of the global batch.

    If the batch is split over `parts` processes, equally, `gather_parts` gathers a vector of each part, [n] -> [parts, n], and is
    differentiable; None means one process. Within `separate_batch_statistics` the input is several batches of one size, each
    normalised by itself. Statistics are in float32 or higher and the variance is centred. A batch of one image works.
    """

    momentum = 0.1
    eps = 1e-5
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.tracks_statistics = True
        self.batches = 1
        self.parts = 1
        self.gather_parts: Callable[[Tensor], Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        count = x.numel() // x.shape[1] // self.batches
        if not self.training:
            return self._native(x)
        if self.gather_parts is None and count > 1:
            return self._native(x) if self.batches == 1 else torch.cat([self._native(b) for b in x.chunk(self.batches)])
        y, means, variances = _GlobalBatchNorm.apply(x, self.weight, self.bias, self)
        if self.tracks_statistics:
            for mean, variance in zip(means, variances, strict=True):
                self._track(mean, variance, count * self.parts)
        return y  # type: ignore[no-any-return]

    def _native(self, x: Tensor) -> Tensor:
        needs_running = self.tracks_statistics or not self.training
        mean, variance = (self.running_mean, self.running_var) if needs_running else (None, None)
        return F.batch_norm(x, mean, variance, self.weight, self.bias, self.training, self.momentum, self.eps)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
        self.running_var.lerp_((variance * count / max(count - 1, 1)).to(self.running_var), self.momentum)

    def global_statistics(self, means: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and biased variance of the global batch from those of this process's part, [batches, C] each (Chan et al. 1979).
        One exchange, no cancellation."""
        means, variances = self.gather(torch.stack([means, variances])).unbind(1)
        mean = means.mean(0)
        return mean, (variances + (means - mean).square()).mean(0)

    def gather(self, ours: Tensor) -> Tensor:
        """`ours` of every process, [parts, *ours.shape]."""
        return ours[None] if self.gather_parts is None else self.gather_parts(ours.flatten()).unflatten(1, ours.shape)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}"


class _GlobalBatchNorm(torch.autograd.Function):
    """(x, weight, bias) -> (y, mean, biased variance), the last two [batches, C] of the global batch.

    Forward and backward make one exchange each. If the backward is differentiated again, autograd computes it from `_normalised`.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: BatchNorm) -> tuple[Tensor, Tensor, Tensor]:
        kernels, batches = kernels_for(x.device), x.chunk(norm.batches)
        means, variances = norm.global_statistics(*kernels.statistics(batches, norm))
        ctx.save_for_backward(x, weight, bias, means, variances)
        ctx.norm, ctx.batches = norm, norm.batches
        ctx.mark_non_differentiable(means, variances)
        rows = zip(batches, means, variances, strict=True)
        y = _concatenated([kernels.normalised(*row, weight, bias, norm.eps) for row in rows])
        return y, means, variances

    @staticmethod
    def backward(ctx: Any, dy: Tensor, *of_statistics: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, means, variances = ctx.saved_tensors
        norm: BatchNorm = ctx.norm
        if torch.is_grad_enabled():
            inputs = [tensor for tensor in (x, weight, bias) if tensor.requires_grad]
            y = _normalised(x, weight, bias, norm, ctx.batches)
            gradients = iter(torch.autograd.grad(y, inputs, dy, create_graph=True))
            return *(next(gradients) if tensor.requires_grad else None for tensor in (x, weight, bias)), None
        batches = list(zip(x.chunk(ctx.batches), dy.chunk(ctx.batches), strict=True))
        dx, sums = kernels_for(x.device).gradients(
            batches, means, variances, weight, norm, total=lambda sums: norm.gather(sums).sum(0)
        )
        dweight, dbias = sums.sum(0)
        return _concatenated(dx), dweight, dbias, None


def _normalised(x: Tensor, weight: Tensor, bias: Tensor, norm: BatchNorm, batches: int) -> Tensor:
    """y in plain operations, differentiable any number of times."""
    exact = x.to(torch.promote_types(x.dtype, torch.float32)).unflatten(0, (batches, -1))
    shape = [batches, 1, -1] + [1] * (x.dim() - 2)
    variances, means = torch.var_mean(exact, [d for d in range(1, exact.dim()) if d != 2], correction=0)
    means, variances = norm.global_statistics(means, variances)
    scale = weight.to(exact.dtype) * torch.rsqrt(variances + norm.eps)
    y = torch.addcmul(bias.to(exact.dtype).view([1, *shape[1:]]), exact - means.view(shape), scale.view(shape))
    return y.flatten(0, 1).to(x.dtype)


def _concatenated(batches: list[Tensor]) -> Tensor:
    return batches[0] if len(batches) == 1 else torch.cat(batches)


@contextmanager
def separate_batch_statistics(network: nn.Module, batches: int) -> Iterator[None]:
    """Within, inputs of `network` are this many concatenated batches, each normalised with its own statistics."""
    norms = [module for module in network.modules() if isinstance(module, BatchNorm)]
    try:
        for module in norms:
            module.batches = batches
        yield
    finally:
        for module in norms:
            module.batches = 1


class LocalBatchNorm(BatchNorm):
    """Batch norm with the statistics of this process's part of the batch. `gather_parts` is never set."""


def local_buffers(network: nn.Module) -> set[str]:
    """The names of the buffers that may differ between processes: those of `LocalBatchNorm`."""
    norms = {name: module for name, module in network.named_modules() if isinstance(module, LocalBatchNorm)}
    return {f"{name}.{buffer}" for name, module in norms.items() for buffer, _ in module.named_buffers()}
