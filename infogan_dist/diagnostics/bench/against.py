"""Our step against any other command on the same machine, in alternation, so that its moods meet both."""

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

from infogan_dist.diagnostics.bench.subject import Subject
from infogan_dist.diagnostics.bench.timing import Timing, counts_of_a_repeat, seconds_of, spread
from infogan_dist.distributed.launcher import RANK_PREFIXES, Launch
from infogan_dist.errors import UserError

RATE = "images_per_second"


@dataclass(frozen=True)
class Opponent:
    """A command, in words, that prints a JSON line with `images_per_second`, and in how many alternations with it."""

    command: str
    words: tuple[str, ...]
    alternations: int

    @classmethod
    def parse(cls, command: str, alternations: int) -> Self:
        """Split as a shell would, without a shell. Raises UserError where a quotation does not end, or there is no word."""
        try:
            words = tuple(shlex.split(command))
        except ValueError as error:
            raise UserError(f"--against {command!r} cannot be read: {error}") from None
        if not words:
            raise UserError("--against is empty; give a command that prints a JSON line with images_per_second")
        return cls(command, words, alternations)

    def check(self, launch: Launch) -> None:
        """Raises UserError on several processes: the command is one."""
        if launch.processes > 1:
            raise UserError(f"--against compares one process with one; start one, not {launch.processes}")

    def images_per_second(self, environment: Mapping[str, str]) -> float:
        """Run it once. Raises UserError where it does not start, fails, or prints no such line."""
        try:
            result = subprocess.run(  # noqa: S603
                self.words, env=environment, capture_output=True, encoding="utf-8", errors="replace", check=False
            )
        except (OSError, ValueError) as error:
            raise UserError(f"--against {self.command!r} cannot be started: {error}") from error
        last_words = (result.stderr.strip() or "nothing").splitlines()[-1]
        if result.returncode != 0:
            raise UserError(
                f"--against {self.command!r} failed with exit code {result.returncode}; it said last: {last_words}"
            )
        rate = rate_in(result.stdout)
        if rate is None:
            raise UserError(
                f"--against {self.command!r} printed no JSON line with a positive {RATE}; it said last: {last_words}"
            )
        return rate


def rate_in(output: str) -> float | None:
    """The images per second in the last JSON line that has them."""
    for line in reversed(output.splitlines()):
        try:
            rate = json.loads(line)[RATE]
        except (ValueError, TypeError, KeyError, IndexError):
            continue
        if isinstance(rate, (int, float)) and not isinstance(rate, bool) and 0 < rate < math.inf:
            return float(rate)
    return None


def environment_of(threads: int) -> dict[str, str]:
    """Ours for a command of its own: not a rank of our launcher, and with our threads."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(RANK_PREFIXES)}
    return inherited | {"OMP_NUM_THREADS": str(threads)}


@dataclass(frozen=True)
class Duel:
    """Our seconds a step, and the command's images per second, by alternation."""

    ours: Timing
    theirs: tuple[float, ...]

    def figures(self, batch: int) -> dict[str, Any]:
        """`ratio` is the median of the alternations' ratios, our images per second over theirs."""
        ratios = [batch / seconds / rate for seconds, rate in zip(self.ours.seconds, self.theirs, strict=True)]
        return {
            "against_images_per_second": statistics.median(self.theirs),
            "against_spread": spread(self.theirs),
            "ratio": statistics.median(ratios),
            "smallest_ratio": min(ratios),
            "largest_ratio": max(ratios),
        }


def compete(subject: Subject, opponent: Opponent) -> Duel:
    """Both in alternation on one process; our step idles while the command runs."""
    environment = environment_of(torch.get_num_threads())
    ours: list[float] = []
    theirs: list[float] = []
    count = 0
    for _ in range(opponent.alternations):
        theirs.append(opponent.images_per_second(environment))  # first, so that a wrong command is told at once
        count = count or counts_of_a_repeat({"ours": subject.step}, subject.cluster)["ours"]
        ours.append(seconds_of(subject.step, count, subject.cluster))
    return Duel(Timing(tuple(ours)), tuple(theirs))
