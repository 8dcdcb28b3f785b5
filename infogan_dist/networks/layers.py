"""The layers that torch does not have in the form we need: maps in and out of vectors, and one batch norm."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from infogan_dist.config import Norm


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


class BatchNorm(nn.Module):
    """Batch norm over all dimensions but the second (Ioffe & Szegedy 2015), of the whole batch wherever it lies.

    Where other processes hold parts of the batch, `sum_over_parts` sums a tensor over them, differentiably; None means
    the whole batch is here. Statistics are in float32 at least, the variance centred; a batch of one image works.
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
        self.sum_over_parts: Callable[[Tensor], Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        alone = self.sum_over_parts is None and x.numel() > x.shape[1]
        if not self.training or alone:
            used = self.tracks_statistics or not self.training
            mean, variance = (self.running_mean, self.running_var) if used else (None, None)
            return F.batch_norm(x, mean, variance, self.weight, self.bias, self.training, self.momentum, self.eps)
        return self._normalise_by_parts(x)

    def _normalise_by_parts(self, x: Tensor) -> Tensor:
        total = self.sum_over_parts or (lambda part: part)
        reduced = [d for d in range(x.dim()) if d != 1]
        shape = [1, -1] + [1] * (x.dim() - 2)
        exact = x.to(torch.promote_types(x.dtype, torch.float32))
        here = exact.new_full((1,), x.numel() / x.shape[1])
        count = total(here).detach()
        mean = total(exact.sum(reduced)) / count
        centred = exact - mean.view(shape)
        variance = total(centred.square().sum(reduced)) / count
        if self.tracks_statistics:
            with torch.no_grad():
                unbiased = variance * count / (count - 1).clamp(min=1)
                self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
                self.running_var.lerp_(unbiased.to(self.running_var), self.momentum)
        scale = self.weight.to(exact.dtype) * torch.rsqrt(variance + self.eps)
        return (centred * scale.view(shape) + self.bias.to(exact.dtype).view(shape)).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}"


class LocalBatchNorm(BatchNorm):
    """Batch norm by the part of the batch at hand, as most ports do; nothing ever sets `sum_over_parts` here."""


def norm(kind: Norm, channels: int) -> nn.Module:
    """The norm layer a config names. The layer before it needs a bias only where `needs_bias(kind)`."""
    layers: dict[str, Callable[[int], nn.Module]] = {"batch": BatchNorm, "batch_local": LocalBatchNorm}
    return layers[kind](channels) if kind in layers else nn.Identity()


def needs_bias(kind: Norm) -> bool:
    """Whether a layer followed by this norm needs a bias of its own; a batch norm would take it out again."""
    return kind == "none"


@contextmanager
def untouched(*networks: nn.Module) -> Iterator[None]:
    """Within, the networks compute as in training, but their weights get no gradients and running statistics rest."""
    parameters = [p for network in networks for p in network.parameters() if p.requires_grad]
    norms = [m for network in networks for m in network.modules() if isinstance(m, BatchNorm) and m.tracks_statistics]
    try:
        for parameter in parameters:
            parameter.requires_grad_(False)
        for module in norms:
            module.tracks_statistics = False
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
        for module in norms:
            module.tracks_statistics = True
