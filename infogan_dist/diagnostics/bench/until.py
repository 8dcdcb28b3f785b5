"""How long training takes to reach a score: from nothing, writing nothing."""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor
from tqdm import tqdm

from infogan_dist.config.schema import Config
from infogan_dist.diagnostics.bench.subject import Subject
from infogan_dist.errors import Diverged, UserError
from infogan_dist.evaluation.measure import evaluate_networks
from infogan_dist.registry.data_sets import DATA_SETS

CODES = "mi/categorical_"  # as the steps name what `mi` is the mean of
ROWS = 5  # logged rows that `mi` is the mean of, so that one lucky batch does not count


@dataclass(frozen=True)
class Goal:
    """A score to reach: `mi`, at least so much of the lower bound L_I in nats on the training fakes, the mean over the
    categorical codes; or `code_error`, at most this share of the held-out images."""

    metric: str
    value: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """`mi=2.2` or `code_error=0.05`. Raises UserError for anything else."""
        name, _, number = text.partition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if name not in ("mi", "code_error") or not math.isfinite(value):
            raise UserError(
                f"--until {text} cannot be asked for; it takes mi=NATS, such as mi=2.2, the mean of L_I over the "
                "categorical codes, or code_error=SHARE, such as code_error=0.05"
            )
        return cls(name, value)

    def check(self, config: Config) -> None:
        """Raises UserError where `config` can never reach it."""
        if not config.latents.categorical:
            raise UserError(
                f"--until {self.metric} is of categorical codes and latents.categorical is empty; set it to [10], say"
            )
        if self.metric == "mi":
            _check_bound(self.value, config)
        else:
            _check_error(self.value, config)

    def met_by(self, score: float) -> bool:
        return score >= self.value if self.metric == "mi" else score <= self.value


def _check_bound(value: float, config: Config) -> None:
    rows = config.train.steps // config.log.every if config.log.every else 0
    if rows < ROWS:
        raise UserError(
            f"--until judges the mean of {ROWS} logged rows and there are {rows} logged rows in train.steps = "
            f"{config.train.steps} with log.every = {config.log.every}; raise train.steps or set log.every = 1, say"
        )
    ceiling = statistics.mean(map(math.log, config.latents.categorical))
    if value >= ceiling:
        raise UserError(f"--until mi={value:g} cannot be reached: the codes hold {ceiling:.3f} nats; ask for less")


def _check_error(value: float, config: Config) -> None:
    if not DATA_SETS[config.data.name].classes:
        raise UserError(f"--until code_error needs known classes, and data.name = {config.data.name} has none; use mi")
    if not 0 <= value < 1:
        raise UserError(f"--until code_error={value:g} is not a share of the images; give one from 0 to 1")
    if not 0 < config.evaluate.every <= config.train.steps:
        raise UserError(
            f"--until code_error looks every evaluate.every = {config.evaluate.every} steps of train.steps = "
            f"{config.train.steps}; set evaluate.every=250, say"
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
            raise Diverged(f"training diverged: mi is {self._rows[-1]}")
        return statistics.mean(self._rows) if len(self._rows) == ROWS else None


def train_until(goal: Goal, subject: Subject, started: float) -> dict[str, Any]:
    """Train to the goal or to train.steps. Every rank calls it.

    `seconds` count from `started`, on time.perf_counter's clock, without those spent looking at held-out images.
    """
    config, cluster = subject.config, subject.cluster
    look = _bound(subject) if goal.metric == "mi" else _error(subject)
    every = config.log.every if goal.metric == "mi" else config.evaluate.every
    reached, looking = False, 0.0
    pace = 0.5 if sys.stderr.isatty() else 10  # seconds: a file need not hold every move of the bar
    with tqdm(total=config.train.steps, unit="step", disable=not cluster.is_main, mininterval=pace) as bar:
        while not reached and subject.steps_taken < config.train.steps:
            metrics = subject.step()
            bar.update()
            if subject.steps_taken % every == 0:
                cluster.synchronize()
                since = time.perf_counter()
                score = look(metrics)
                reached = score is not None and goal.met_by(score)
                bar.set_postfix({} if score is None else {goal.metric: f"{score:.3f}"}, refresh=False)
                looking += time.perf_counter() - since
    cluster.synchronize()
    seconds = time.perf_counter() - started - looking
    return {
        "metric": goal.metric,
        "value": goal.value,
        "reached": reached,
        "seconds": cluster.on_main(lambda: seconds),
        "steps": subject.steps_taken,
        "images_seen": subject.steps_taken * config.train.global_batch,
    }


Look = Callable[[dict[str, Tensor]], float | None]


def _bound(subject: Subject) -> Look:
    score = Score()
    return lambda metrics: score.add(subject.cluster.mean(metrics))


def _error(subject: Subject) -> Look:
    networks, config, cluster = subject.trainer.state.networks, subject.config, subject.cluster
    return lambda metrics: evaluate_networks(networks, config, cluster)["code_error"]
