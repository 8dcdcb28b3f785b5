"""Compares our step with another command on the same machine, in alternation, so that machine noise affects both alike."""

from __future__ import annotations

import json
import math
import os
import shlex
import statistics
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch

from infogan_dist.diagnostics.bench.bench_trainer import BenchTrainer
from infogan_dist.diagnostics.bench.timing import Timing, seconds_per_step, spread, steps_per_repeat
from infogan_dist.distributed.launcher import RANK_PREFIXES, Launch
from infogan_dist.errors import UserError

RATE = "images_per_second"


@dataclass(frozen=True)
class Baseline:
    """A command that prints a JSON line with `images_per_second`, and the number of alternations with our step."""

    command: str
    words: tuple[str, ...]
    alternations: int

    @classmethod
    def parse(cls, command: str, alternations: int) -> Self:
        """Split `command` as a shell would. Raises UserError where a quotation does not end or it is empty."""
        try:
            words = tuple(shlex.split(command))
        except ValueError as error:
            raise UserError(f"--against {command!r} cannot be read: {error}") from None
        if not words:
            raise UserError("--against is empty; give a command that prints a JSON line with images_per_second")
        return cls(command, words, alternations)

    def check(self, launch: Launch) -> None:
        """Raises UserError on several processes, because the command is one process."""
        if launch.processes > 1:
            raise UserError(f"--against compares one process with one; start one, not {launch.processes}")

    def images_per_second(self, environment: Mapping[str, str]) -> float:
        """Run the command once. Raises UserError where it does not start, fails, or prints no such line."""
        try:
            result = subprocess.run(  # noqa: S603
                self.words, env=environment, capture_output=True, encoding="utf-8", errors="replace", check=False
            )
        except (OSError, ValueError) as error:
            raise UserError(f"--against {self.command!r} cannot be started: {error}") from error
        last_line = (result.stderr.strip() or "nothing").splitlines()[-1]
        if result.returncode != 0:
            raise UserError(
                f"--against {self.command!r} failed with exit code {result.returncode}; its last line: {last_line}"
            )
        rate = rate_in(result.stdout)
        if rate is None:
            raise UserError(
                f"--against {self.command!r} printed no JSON line with a positive {RATE}; its last line: {last_line}"
            )
        return rate


def rate_in(output: str) -> float | None:
    """`images_per_second` of the last JSON line that has it; None without one."""
    for line in reversed(output.splitlines()):
        try:
            rate = json.loads(line)[RATE]
        except (ValueError, TypeError, KeyError, IndexError):
            continue
        if isinstance(rate, (int, float)) and not isinstance(rate, bool) and 0 < rate < math.inf:
            return float(rate)
    return None


def environment_of(threads: int) -> dict[str, str]:
    """Our environment for an independent command: without our launcher's variables, and with `threads` threads."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(RANK_PREFIXES)}
    return inherited | {"OMP_NUM_THREADS": str(threads)}


@dataclass(frozen=True)
class Comparison:
    """Our seconds per step and the baseline's images per second, by alternation."""

    ours: Timing
    theirs: tuple[float, ...]

    def metrics(self, batch: int) -> dict[str, Any]:
        """The ratio of our images per second to theirs: its median over the alternations, smallest and largest value."""
        ratios = [batch / seconds / rate for seconds, rate in zip(self.ours.seconds, self.theirs, strict=True)]
        return {
            "against_images_per_second": statistics.median(self.theirs),
            "against_spread": spread(self.theirs),
            "ratio": statistics.median(ratios),
            "smallest_ratio": min(ratios),
            "largest_ratio": max(ratios),
        }


def compare(trainer: BenchTrainer, baseline: Baseline) -> Comparison:
    """Time both in alternation on one process. Our step does not run while the command does."""
    environment = environment_of(torch.get_num_threads())
    ours: list[float] = []
    theirs: list[float] = []
    count = 0
    for _ in range(baseline.alternations):
        theirs.append(baseline.images_per_second(environment))  # first, so that a wrong command fails at once
        count = count or steps_per_repeat({"ours": trainer.step}, trainer.cluster)["ours"]
        ours.append(seconds_per_step(trainer.step, count, trainer.cluster))
    return Comparison(Timing(tuple(ours)), tuple(theirs))
