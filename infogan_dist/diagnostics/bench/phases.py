"""Where the time of a step goes: an engine that looks at the clock whenever the step calls on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from torch import Tensor, nn
from torch.optim import Optimizer

from infogan_dist.diagnostics.bench.subject import Subject
from infogan_dist.training.step import Engine, Game, train_step

OTHER = "other"  # between the others: clearing gradients, metrics
REDUCE = "reduce"  # waiting for reductions, known from the step with and without them
PHASES = (
    *("data", "G_draw", "D_forward", "D_backward", "D_update"),
    *("G_forward", "G_backward", "G_update", "average", OTHER),
)


class PhaseClock:
    """Seconds by phase; all time belongs to the phase entered last. Entering one first waits for the device."""

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
        """In `phase`, and after it in `then`, or in the phase before."""
        before = self.phase
        self.enter(phase)
        yield
        self.enter(then or before)


class TimedEngine:
    """Runs a game's step on the game's own engine, and has `clock` follow it from phase to phase."""

    def __init__(self, game: Game, clock: PhaseClock):
        self._game, self._engine, self._clock = game, game.engine, clock

    @contextmanager
    def autocast(self) -> Iterator[None]:
        with self._clock.within("G_draw"), self._engine.autocast():
            yield

    @contextmanager
    def gradients_of(self, side: nn.Module, last: bool) -> Iterator[None]:
        player = "D" if side is self._game.discriminator_side else "G"
        with self._clock.within(f"{player}_forward", then=OTHER), self._engine.gradients_of(side, last):
            yield

    def backward(self, loss: Tensor) -> None:
        player, _, _ = self._clock.phase.partition("_")  # a backward ends the forward of the same side
        with self._clock.within(f"{player}_backward", then=OTHER):
            self._engine.backward(loss)

    def mean_of_all(self, statistic: Tensor) -> Tensor:
        return self._engine.mean_of_all(statistic)

    def unscale(self, optimizer: Optimizer) -> None:
        self._clock.enter("D_update" if optimizer is self._game.optimizer_D else "G_update")
        self._engine.unscale(optimizer)

    def update(self, optimizer: Optimizer, skip: Tensor) -> None:
        self._engine.update(optimizer, skip)
        self._clock.enter(OTHER)

    def end_step(self) -> None:
        with self._clock.within("G_update"):
            self._engine.end_step()


def timed(game: Game, clock: PhaseClock) -> Game:
    """The same game, its step followed by `clock`."""
    engine: Engine = TimedEngine(game, clock)
    return replace(game, engine=engine)


def seconds_by_phase(subject: Subject, steps: int) -> dict[str, float]:
    """Seconds of a step in each of PHASES, the mean of `steps` steps that train the subject. This rank's clock.

    Waiting for the device between phases, and a step taken without a recorded graph, may make their sum longer than the step.
    Forward includes the loss and the slopes that it penalises; micro-batches add up.
    """
    clock = PhaseClock(subject.cluster.synchronize)
    game = timed(subject.game, clock)
    for _ in range(steps):
        clock.enter("data")
        batch = subject.next_batch()
        clock.enter(OTHER)
        metrics = train_step(game, batch)
        with clock.within("average"):
            subject.average(metrics)
    return {phase: seconds / steps for phase, seconds in clock.seconds.items()}
