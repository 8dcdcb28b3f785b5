"""Batch norm over the whole batch, wherever its parts lie; torch's own has no double backward over processes and no CPU form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from infogan_dist.networks.batch_norm_kernels import kernels_for


class BatchNorm(nn.Module):
    """Batch norm over all dimensions but the second (Ioffe & Szegedy 2015), of the whole batch wherever it lies.

    Where other processes hold `parts` of the batch, of one size each, `gather_parts` gives every part's vector, [n] ->
    [parts, n], differentiably; None means the whole batch is here. Within `separate_batch_statistics` the input is several batches of one
    size, each normalised by itself. Statistics are in float32 at least, the variance centred; a batch of one image works.
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
        y, means, variances = _NormaliseByParts.apply(x, self.weight, self.bias, self)
        if self.tracks_statistics:
            for mean, variance in zip(means, variances, strict=True):
                self._track(mean, variance, count * self.parts)
        return y  # type: ignore[no-any-return]

    def _native(self, x: Tensor) -> Tensor:
        used = self.tracks_statistics or not self.training
        mean, variance = (self.running_mean, self.running_var) if used else (None, None)
        return F.batch_norm(x, mean, variance, self.weight, self.bias, self.training, self.momentum, self.eps)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
        self.running_var.lerp_((variance * count / max(count - 1, 1)).to(self.running_var), self.momentum)

    def of_the_whole(self, part_means: Tensor, part_variances: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and biased variance, [batches, C] each, of parts of one size, from those of each (Chan et al. 1979): one
        exchange, no cancellation."""
        means, variances = self.gathered(torch.stack([part_means, part_variances])).unbind(1)
        mean = means.mean(0)
        return mean, (variances + (means - mean).square()).mean(0)

    def gathered(self, ours: Tensor) -> Tensor:
        """The same of every part, [parts, *ours.shape]."""
        return ours[None] if self.gather_parts is None else self.gather_parts(ours.flatten()).unflatten(1, ours.shape)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}"


class _NormaliseByParts(torch.autograd.Function):
    """(x, weight, bias) -> y, mean and biased variance [batches, C] of the whole, by torch's kernels for given statistics.

    Its derivative is written out, one exchange each way; where that is to be differentiated again, it is left to autograd.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: BatchNorm) -> tuple[Tensor, Tensor, Tensor]:
        kernels, batches = kernels_for(x.device), x.chunk(norm.batches)
        means, variances = norm.of_the_whole(*kernels.statistics(batches, norm))
        ctx.save_for_backward(x, weight, bias, means, variances)
        ctx.norm, ctx.batches = norm, norm.batches
        ctx.mark_non_differentiable(means, variances)
        given = zip(batches, means, variances, strict=True)
        y = _joined(
            [kernels.normalised(*batch_and_statistics, weight, bias, norm.eps) for batch_and_statistics in given]
        )
        return y, means, variances

    @staticmethod
    def backward(ctx: Any, dy: Tensor, *of_statistics: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, means, variances = ctx.saved_tensors
        norm: BatchNorm = ctx.norm
        if torch.is_grad_enabled():
            inputs = [tensor for tensor in (x, weight, bias) if tensor.requires_grad]
            y = _normalised(x, weight, bias, norm, ctx.batches)
            found = iter(torch.autograd.grad(y, inputs, dy, create_graph=True))
            return *(next(found) if tensor.requires_grad else None for tensor in (x, weight, bias)), None
        batches = list(zip(x.chunk(ctx.batches), dy.chunk(ctx.batches), strict=True))
        dx, sums = kernels_for(x.device).gradients(
            batches, means, variances, weight, norm, total=lambda sums: norm.gathered(sums).sum(0)
        )
        dweight, dbias = sums.sum(0)
        return _joined(dx), dweight, dbias, None


def _normalised(x: Tensor, weight: Tensor, bias: Tensor, norm: BatchNorm, batches: int) -> Tensor:
    """The same y in plain operations, differentiable any number of times."""
    exact = x.to(torch.promote_types(x.dtype, torch.float32)).unflatten(0, (batches, -1))
    shape = [batches, 1, -1] + [1] * (x.dim() - 2)
    variances, means = torch.var_mean(exact, [d for d in range(1, exact.dim()) if d != 2], correction=0)
    means, variances = norm.of_the_whole(means, variances)
    scale = weight.to(exact.dtype) * torch.rsqrt(variances + norm.eps)
    y = torch.addcmul(bias.to(exact.dtype).view([1, *shape[1:]]), exact - means.view(shape), scale.view(shape))
    return y.flatten(0, 1).to(x.dtype)


def _joined(batches: list[Tensor]) -> Tensor:
    return batches[0] if len(batches) == 1 else torch.cat(batches)


@contextmanager
def separate_batch_statistics(network: nn.Module, batches: int) -> Iterator[None]:
    """Within, `network` takes so many batches one after another, and each is normalised by itself, as if passed alone."""
    norms = [module for module in network.modules() if isinstance(module, BatchNorm)]
    try:
        for module in norms:
            module.batches = batches
        yield
    finally:
        for module in norms:
            module.batches = 1


class LocalBatchNorm(BatchNorm):
    """Batch norm by the part of the batch at hand, as most ports do; nothing ever sets `gather_parts` here."""


def local_buffers(network: nn.Module) -> set[str]:
    """The names of the buffers that may differ between processes: those of norms by the part of the batch at hand."""
    norms = {name: module for name, module in network.named_modules() if isinstance(module, LocalBatchNorm)}
    return {f"{name}.{buffer}" for name, module in norms.items() for buffer, _ in module.named_buffers()}
