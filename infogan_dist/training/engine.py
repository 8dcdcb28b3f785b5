"""The interface between a step and what runs it: precision, gradient reductions and optimizer updates."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from infogan_dist.distributed.masked import masked


class Engine(Protocol):
    """Runs the parts of a step: `Cluster`, and the engines that time or measure a step."""

    def autocast(self) -> AbstractContextManager[None]:
        """The autocast of calls outside the DDP modules."""

    def gradients_of(self, module: nn.Module, last: bool) -> AbstractContextManager[None]:
        """The context of forward and backward of one micro-batch. `last`: reduce the gradients."""

    def backward(self, loss: Tensor) -> None: ...

    def mean_of_all(self, statistic: Tensor, what: str) -> Tensor:
        """The mean of `statistic` over all processes, differentiable, counted as `what`."""

    def unscale(self, optimizer: Optimizer) -> None:
        """Undo the loss scaling in the gradients of `optimizer`."""

    def update(self, optimizer: Optimizer, skip: Tensor) -> None:
        """Step the optimizer with complete, unscaled gradients. If `skip`, [] on the device, is 1, change nothing."""

    def end_step(self) -> None:
        """Called after both updates."""


class PlainEngine:
    """Runs a step in plain PyTorch, on one process."""

    def autocast(self) -> AbstractContextManager[None]:
        return nullcontext()

    def gradients_of(self, module: nn.Module, last: bool) -> AbstractContextManager[None]:
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def mean_of_all(self, statistic: Tensor, what: str) -> Tensor:
        return statistic

    def unscale(self, optimizer: Optimizer) -> None:
        pass

    def update(self, optimizer: Optimizer, skip: Tensor) -> None:
        masked(optimizer, skip).step()

    def end_step(self) -> None:
        pass


class WrappedEngine:
    """Runs a step on another engine. The base class of engines that observe a step."""

    def __init__(self, engine: Engine):
        self._engine = engine

    def autocast(self) -> AbstractContextManager[None]:
        return self._engine.autocast()

    def gradients_of(self, module: nn.Module, last: bool) -> AbstractContextManager[None]:
        return self._engine.gradients_of(module, last)

    def backward(self, loss: Tensor) -> None:
        self._engine.backward(loss)

    def mean_of_all(self, statistic: Tensor, what: str) -> Tensor:
        return self._engine.mean_of_all(statistic, what)

    def unscale(self, optimizer: Optimizer) -> None:
        self._engine.unscale(optimizer)

    def update(self, optimizer: Optimizer, skip: Tensor) -> None:
        self._engine.update(optimizer, skip)

    def end_step(self) -> None:
        self._engine.end_step()
