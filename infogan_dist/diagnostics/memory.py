"""The memory of a training step, measured on a real step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from infogan_dist.networks import Networks
from infogan_dist.training.engine import Engine, WrappedEngine
from infogan_dist.training.train_state import TrainState
from infogan_dist.training.trainer import Trainer


class StepMemory(NamedTuple):
    """Bytes of one process by purpose: `optimizer` is Adam's two moments, `average` is G_ema, `activations` is what autograd keeps for
    the larger of the two backward passes. Kernel workspace and cached images are not included."""

    weights: int
    gradients: int
    optimizer: int
    average: int
    activations: int

    @classmethod
    def of(cls, networks: Networks, activations: int = 0) -> StepMemory:
        named = networks.named()
        average = _bytes_of(named.pop("G_ema").state_dict().values())
        trained = _bytes_of(parameter for network in named.values() for parameter in network.parameters())
        weights = _bytes_of(tensor for network in named.values() for tensor in network.state_dict().values())
        return cls(weights, trained, 2 * trained, average, activations)

    @property
    def total(self) -> int:
        return sum(self)

    @property
    def checkpoint(self) -> int:
        """Bytes of a checkpoint."""
        return self.weights + self.optimizer + self.average


class KeptBytes:
    """Counts the bytes that autograd keeps for backward passes: each storage once, without those of `known` tensors."""

    def __init__(self, known: Iterable[Tensor]):
        self._known = {tensor.untyped_storage().data_ptr() for tensor in known}
        self._storages: dict[int, int] = {}

    @property
    def total(self) -> int:
        return sum(self._storages.values())

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._known:
            self._storages[storage.data_ptr()] = storage.nbytes()
        return tensor


@contextmanager
def kept_for_backward(known: Iterable[Tensor]) -> Iterator[KeptBytes]:
    """Count what autograd keeps inside the context. Correct for one forward and backward pass, between which nothing kept is freed."""
    kept = KeptBytes(known)
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor):
        yield kept


class MemoryEngine(WrappedEngine):
    """Runs a step on another engine and counts the bytes that autograd keeps for backward passes."""

    def __init__(self, engine: Engine, known: Iterable[Tensor]):
        super().__init__(engine)
        self._known = list(known)
        self._draw, self._updates = 0, [0]

    @property
    def activations(self) -> int:
        """Bytes for the largest backward pass of a micro-batch, including G's graph."""
        return self._draw + max(self._updates)

    @contextmanager
    def autocast(self) -> Iterator[None]:
        with super().autocast(), kept_for_backward(self._known) as kept:
            yield
        self._draw = max(self._draw, kept.total)

    @contextmanager
    def gradients_of(self, module: nn.Module, last: bool) -> Iterator[None]:
        with super().gradients_of(module, last), kept_for_backward(self._known) as kept:
            yield
        self._updates.append(kept.total)


def measured_step(trainer: Trainer) -> tuple[dict[str, Tensor], int]:
    """Take the first step. Returns its metrics, and the bytes of one micro-batch's activations."""
    engines: list[MemoryEngine] = []

    def observe(state: TrainState) -> Engine:
        weights = [parameter for network in state.networks.named().values() for parameter in network.parameters()]
        drawn = [
            tensor  # a slice of the draws of many steps
            for batch in trainer.batch
            for tensor in (batch.latent, batch.codes.categorical, batch.codes.continuous)
        ]
        drawn += [
            augmentation.draws
            for batch in trainer.batch
            for augmentation in (batch.augment_D, batch.augment_G)
            if augmentation is not None
        ]
        engines.append(MemoryEngine(state.engine, [*weights, *drawn]))
        return engines[0]

    metrics = trainer.step(1, observe)
    return metrics, engines[0].activations


def _bytes_of(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
