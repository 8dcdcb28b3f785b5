"""Seconds of a step by phase, measured by an engine that reads the clock at each call of the step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.optim import Optimizer

from infogan_dist.diagnostics.bench.bench_trainer import BenchTrainer
from infogan_dist.training.engine import WrappedEngine
from infogan_dist.training.train_state import TrainState

OTHER = "other"  # between the other phases: clearing gradients, metrics
REDUCE = "reduce"  # waiting for reductions: the step's time minus that without them
PHASES = (
    *("data", "G_draw", "D_forward", "D_backward", "D_update"),
    *("G_forward", "G_backward", "G_update", "average", OTHER),
)


class PhaseClock:
    """Seconds by phase. Time belongs to the phase entered last. Entering a phase waits for the device."""

    def __init__(self, synchronize: Callable[[], None], now: Callable[[], float] = time.perf_counter):
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.phase = OTHER
        self._synchronize, self._now = synchronize, now
        synchronize()
        self._since = now()

    def enter(self, phase: str) -> None:
        self._synchronize()
        now = self._now()
        self.seconds[self.phase] += now - self._since
        self.phase, self._since = phase, now

    @contextmanager
    def within(self, phase: str, then: str | None = None) -> Iterator[None]:
        """Enter `phase`; afterwards enter `then`, by default the previous phase."""
        before = self.phase
        self.enter(phase)
        yield
        self.enter(then or before)


class TimedEngine(WrappedEngine):
    """Runs a step on the engine of `state` and enters each of its phases on `clock`."""

    def __init__(self, state: TrainState, clock: PhaseClock):
        super().__init__(state.engine)
        self._state, self._clock = state, clock

    @contextmanager
    def autocast(self) -> Iterator[None]:
        then = OTHER if self._clock.phase == "data" else None  # None inside G_forward
        with self._clock.within("G_draw", then), super().autocast():
            yield

    @contextmanager
    def gradients_of(self, module: nn.Module, last: bool) -> Iterator[None]:
        step = "D" if module is self._state.discriminator_module else "G"
        with self._clock.within(f"{step}_forward", then=OTHER), super().gradients_of(module, last):
            yield

    def backward(self, loss: Tensor) -> None:
        step, _, _ = self._clock.phase.partition("_")  # the backward follows the forward of the same module
        with self._clock.within(f"{step}_backward", then=OTHER):
            super().backward(loss)

    def unscale(self, optimizer: Optimizer) -> None:
        self._clock.enter("D_update" if optimizer is self._state.optimizer_D else "G_update")
        super().unscale(optimizer)

    def update(self, optimizer: Optimizer, skip: Tensor) -> None:
        super().update(optimizer, skip)
        self._clock.enter(OTHER)

    def end_step(self) -> None:
        with self._clock.within("G_update", then="average"):
            super().end_step()


def seconds_by_phase(trainer: BenchTrainer, steps: int) -> dict[str, float]:
    """Seconds of a step in each of PHASES on this rank, the mean of `steps` training steps.

    Their sum may exceed the time of a step, because the phases wait for the device and use no CUDA graph. Forward includes the loss
    and the gradient penalty. Micro-batches are summed.
    """
    clock = PhaseClock(trainer.cluster.synchronize)
    for _ in range(steps):
        clock.enter("data")
        trainer.step(observe=lambda state: TimedEngine(state, clock))
        clock.enter(OTHER)
    return {phase: seconds / steps for phase, seconds in clock.seconds.items()}
