"""Gradient checkpointing (Chen et al. 2016, arXiv 1604.06174): activations inside a stage of a network are computed again in the
backward pass instead of being kept. Losses, gradients and state have the same bits as without it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from infogan_dist.errors import UserError
from infogan_dist.networks.batch_norm import BatchNorm
from infogan_dist.networks.spectral_norm import SpectralNorm


def checkpointed(network: nn.Module, x: Tensor) -> Tensor:
    """`network(x)`, keeping only the input of each of its `stages` for the backward pass.

    Raises UserError if a stage changes its input in place, because it could not be computed again.
    """
    if not torch.is_grad_enabled():
        return network(x)  # type: ignore[no-any-return]
    for layers in stages(network):
        contexts = partial(_contexts, layers)
        x = checkpoint(_run, layers, x, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
    return x


def stages(network: nn.Module) -> list[list[nn.Module]]:
    """The layers of an `nn.Sequential`, split before each layer with a matrix or a kernel. Any other network is one stage."""
    if type(network) is not nn.Sequential:
        return [[network]]
    found: list[list[nn.Module]] = [[]]
    for layer in network:
        if _has_matrix(layer) and any(map(_has_matrix, found[-1])):
            found.append([])
        found[-1].append(layer)
    return found


def _has_matrix(layer: nn.Module) -> bool:
    return any(parameter.dim() > 1 for parameter in layer.parameters())


def _run(layers: Sequence[nn.Module], x: Tensor) -> Tensor:
    version, y = x._version, x
    for layer in layers:
        y = layer(y)
    if x._version != version:
        kinds = ", ".join(type(layer).__name__ for layer in layers)
        raise UserError(
            f"train.gradient_checkpointing = true needs layers that keep their input, but one of {kinds} changes it in place; "
            "remove inplace=True there, or set train.gradient_checkpointing = false"
        )
    return y


def _contexts(layers: Sequence[nn.Module]) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """The contexts of the forward pass and of its repetition. Called where the forward pass begins."""
    modules = [module for layer in layers for module in layer.modules()]
    norms = [(module, module.batches) for module in modules if isinstance(module, BatchNorm)]
    spectral = [module for module in modules if isinstance(module, SpectralNorm)]
    return nullcontext(), _repeated(norms, spectral)


@contextmanager
def _repeated(norms: Sequence[tuple[BatchNorm, int]], spectral: Sequence[SpectralNorm]) -> Iterator[None]:
    """Within, layers compute what they computed before: each batch norm splits its input into as many batches and updates a copy of
    its running statistics, and spectral norms make no power iteration, because `u` is the result of the one before."""
    before = [(norm, norm.batches, norm.running_mean, norm.running_var) for norm, _ in norms]
    iterating = [module for module in spectral if module.tracks_statistics]
    try:
        for norm, batches in norms:
            norm.batches = batches
            norm.running_mean, norm.running_var = norm.running_mean.clone(), norm.running_var.clone()
        for module in iterating:
            module.tracks_statistics = False
        yield
    finally:
        for norm, batches, mean, variance in before:
            norm.batches, norm.running_mean, norm.running_var = batches, mean, variance
        for module in iterating:
            module.tracks_statistics = True
