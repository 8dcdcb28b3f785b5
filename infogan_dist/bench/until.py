"""How long training takes to reach a score: from nothing, writing nothing."""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from tqdm import tqdm

from infogan_dist.bench.subject import Subject
from infogan_dist.config import Config
from infogan_dist.errors import Diverged, UserError

METRIC = "mi"
CODES = "mi/categorical_"  # as the steps name what `mi` is the mean of
ROWS = 5  # logged rows that a score is the mean of, so that one lucky batch does not count


@dataclass(frozen=True)
class Goal:
    """A score to reach: `mi`, the lower bound L_I in nats on the training fakes, the mean over the categorical codes."""

    value: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """`mi=2.2`. Raises UserError for anything else."""
        name, _, number = text.partition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if name != METRIC or not math.isfinite(value):
            raise UserError(
                f"--until {text} cannot be asked for; it takes {METRIC}=NATS, such as mi=2.2: the mean of L_I over the "
                "categorical codes"
            )
        return cls(value)

    def check(self, config: Config) -> None:
        """Raises UserError where `config` can never reach it."""
        classes = config.latents.categorical
        if not classes:
            raise UserError("--until mi is of categorical codes and latents.categorical is empty; set it to [10], say")
        rows = config.train.steps // config.log.every if config.log.every else 0
        if rows < ROWS:
            raise UserError(
                f"--until judges the mean of {ROWS} logged rows and there are {rows} logged rows in train.steps = "
                f"{config.train.steps} with log.every = {config.log.every}; raise train.steps or set log.every = 1, say"
            )
        ceiling = statistics.mean(map(math.log, classes))
        if self.value >= ceiling:
            raise UserError(
                f"--until mi={self.value:g} cannot be reached: the codes hold {ceiling:.3f} nats; ask for less"
            )


class Score:
    """The mean over the last ROWS logged rows of the mean over the categorical codes; None before there are so many."""

    def __init__(self) -> None:
        self._rows: deque[float] = deque(maxlen=ROWS)

    def add(self, row: Mapping[str, float]) -> float | None:
        """With one more row. Raises Diverged where it is not finite."""
        bounds = [value for name, value in row.items() if name.startswith(CODES)]
        self._rows.append(statistics.mean(bounds))
        if not math.isfinite(self._rows[-1]):
            raise Diverged(f"training diverged: {METRIC} is {self._rows[-1]}")
        return statistics.mean(self._rows) if len(self._rows) == ROWS else None


def train_until(goal: Goal, subject: Subject, started: float) -> dict[str, Any]:
    """Train to the goal or to train.steps. `seconds` count from `started`, on time.perf_counter's clock. Every rank calls it."""
    config, cluster, score = subject.config, subject.cluster, Score()
    reached = False
    pace = 0.5 if sys.stderr.isatty() else 10  # seconds: a file need not hold every move of the bar
    with tqdm(total=config.train.steps, unit="step", disable=not cluster.is_main, mininterval=pace) as bar:
        while not reached and subject.steps_taken < config.train.steps:
            metrics = subject.step()
            bar.update()
            if subject.steps_taken % config.log.every == 0:
                mean = score.add(cluster.mean(metrics))
                reached = mean is not None and mean >= goal.value
                bar.set_postfix({} if mean is None else {METRIC: f"{mean:.3f}"}, refresh=False)
    cluster.synchronize()
    seconds = time.perf_counter() - started
    return {
        "metric": METRIC,
        "value": goal.value,
        "reached": reached,
        "seconds": cluster.on_main(lambda: seconds),
        "steps": subject.steps_taken,
        "images_seen": subject.steps_taken * config.train.global_batch,
    }
