"""What a training step holds in memory, measured on a real one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from infogan_dist.networks import Networks
from infogan_dist.training.step import MicroBatch, discriminator_step, draw, generator_step
from infogan_dist.training.train_state import TrainState


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
    """Counts what autograd keeps for backward passes: each storage once, those of `known` tensors not at all."""

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


def measured_step(state: TrainState, batch: MicroBatch) -> tuple[dict[str, Tensor], int]:
    """One step on one micro-batch, which trains the state: its metrics, and the bytes of its activations.

    A step of several micro-batches needs no more than that of one: it frees G's graph before the D step.
    """
    weights = [parameter for network in state.networks.named().values() for parameter in network.parameters()]
    drawn = [batch.latent, batch.codes.categorical, batch.codes.continuous]  # parts of many steps' draws
    drawn += [view.draws for view in (batch.view_D, batch.view_G) if view is not None]
    known = [*weights, *drawn]
    with kept_for_backward(known) as by_drawing:
        fakes = draw(state, batch)
    with kept_for_backward(known) as by_D:
        metrics = discriminator_step(state, [batch], fakes)
    with kept_for_backward(known) as by_G:
        metrics |= generator_step(state, [batch], fakes)
    state.engine.end_step()
    return metrics, by_drawing.total + max(by_D.total, by_G.total)


def _bytes_of(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
