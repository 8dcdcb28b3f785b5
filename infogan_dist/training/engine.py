"""What a step asks of whoever runs it: precision, gradient reductions and optimizer updates."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from infogan_dist.distributed.masked import masked


class Engine(Protocol):
    """Runs the parts of a step. `Cluster` is one; so are the engines that time or measure a step."""

    def autocast(self) -> AbstractContextManager[None]:
        """The precision of calls that do not go through a DDP module."""

    def gradients_of(self, module: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Around forward and backward of one micro-batch; `last` is the one whose gradients complete the update."""

    def backward(self, loss: Tensor) -> None: ...

    def mean_of_all(self, statistic: Tensor) -> Tensor:
        """A statistic of this process's part of a micro-batch, averaged over all parts, differentiably."""

    def unscale(self, optimizer: Optimizer) -> None:
        """Undo the loss scale of `backward` in the complete gradients that `optimizer` steps."""

    def update(self, optimizer: Optimizer, skip: Tensor) -> None:
        """One update from complete, unscaled gradients; none where `skip`, [] on the device, is 1."""

    def end_step(self) -> None:
        """Both updates are done."""


class PlainEngine:
    """Runs a step in plain PyTorch, on one process."""

    def autocast(self) -> AbstractContextManager[None]:
        return nullcontext()

    def gradients_of(self, module: nn.Module, last: bool) -> AbstractContextManager[None]:
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def mean_of_all(self, statistic: Tensor) -> Tensor:
        return statistic

    def unscale(self, optimizer: Optimizer) -> None:
        pass

    def update(self, optimizer: Optimizer, skip: Tensor) -> None:
        masked(optimizer, skip).step()

    def end_step(self) -> None:
        pass


class WrappedEngine:
    """Runs a step on another engine: the base of those that observe it."""

    def __init__(self, engine: Engine):
        self._engine = engine

    def autocast(self) -> AbstractContextManager[None]:
        return self._engine.autocast()

    def gradients_of(self, module: nn.Module, last: bool) -> AbstractContextManager[None]:
        return self._engine.gradients_of(module, last)

    def backward(self, loss: Tensor) -> None:
        self._engine.backward(loss)

    def mean_of_all(self, statistic: Tensor) -> Tensor:
        return self._engine.mean_of_all(statistic)

    def unscale(self, optimizer: Optimizer) -> None:
        self._engine.unscale(optimizer)

    def update(self, optimizer: Optimizer, skip: Tensor) -> None:
        self._engine.update(optimizer, skip)

    def end_step(self) -> None:
        self._engine.end_step()
