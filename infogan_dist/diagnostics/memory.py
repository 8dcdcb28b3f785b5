"""The memory of a training step, measured on a real one."""

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
    """Bytes of one process by what they are: `optimizer` is Adam's two moments, `average` is G_ema, `activations` what
    autograd keeps for the larger of the two backward passes. The kernels' work space and the resident images come on top."""

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
        """What a checkpoint holds of it."""
        return self.weights + self.optimizer + self.average


class KeptBytes:
    """Counts the bytes that autograd keeps for backward passes: each storage once, those of `known` tensors not at all."""

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
    """Within, count what autograd keeps; true for one forward pass and its backward, while nothing kept is freed between."""
    kept = KeptBytes(known)
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor):
        yield kept


class MemoryEngine(WrappedEngine):
    """Runs a step on another engine, and counts the bytes that autograd keeps for its backward passes."""

    def __init__(self, engine: Engine, known: Iterable[Tensor]):
        super().__init__(engine)
        self._known = list(known)
        self._draw, self._updates = 0, [0]

    @property
    def activations(self) -> int:
        """Bytes for the largest backward pass of a micro-batch, G's graph included."""
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
    """Take the first step. Returns its metrics, and the bytes of its activations: those of one micro-batch."""
    engines: list[MemoryEngine] = []

    def observe(state: TrainState) -> Engine:
        weights = [parameter for network in state.networks.named().values() for parameter in network.parameters()]
        drawn = [
            tensor  # parts of the draws of many steps
            for batch in trainer.batch
            for tensor in (batch.latent, batch.codes.categorical, batch.codes.continuous)
        ]
        drawn += [
            view.draws for batch in trainer.batch for view in (batch.augment_D, batch.augment_G) if view is not None
        ]
        engines.append(MemoryEngine(state.engine, [*weights, *drawn]))
        return engines[0]

    metrics = trainer.step(1, observe)
    return metrics, engines[0].activations


def _bytes_of(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
