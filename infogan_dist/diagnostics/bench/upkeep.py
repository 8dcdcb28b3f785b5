"""What the loop adds to the steps: logging, drawing and saving, timed in a run folder of their own that is thrown away."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from infogan_dist.diagnostics.bench.subject import Subject
from infogan_dist.diagnostics.bench.timing import seconds_of
from infogan_dist.training.probe import Probe
from infogan_dist.training.run import Run

TIMES = 3  # of each; one goes before, to warm up


def upkeep(subject: Subject, step_seconds: float) -> dict[str, dict[str, float]]:
    """By what is done: its seconds, how often in steps it is due, and its share of the time of a run. Every rank calls it."""
    cluster = subject.cluster
    folder = cluster.on_main(lambda: tempfile.mkdtemp(prefix="infogan-bench-"))
    try:
        return {
            name: {"seconds": seconds, "every": every, "share": share_of_run(seconds, every, step_seconds)}
            for name, (every, act) in _acts(subject, folder).items()
            for seconds in [_seconds(act, subject)]
        }
    finally:
        cluster.on_main(lambda: shutil.rmtree(folder, ignore_errors=True))


def _acts(subject: Subject, folder: str) -> dict[str, tuple[int, Callable[[int], Any]]]:
    waited_for = subject.config.checkpoint.model_copy(update={"background": False})  # at most what a save costs a run
    config = subject.config.model_copy(update={"output": str(Path(folder) / "run"), "checkpoint": waited_for})
    run = Run(config, subject.cluster, subject.trainer, checkpoint=None)
    metrics, batch = subject.step(), subject.trainer.batch
    probe = Probe(subject.trainer.state, config.seed)
    return {
        "log": (config.log.every, lambda step: run.record(step, metrics | probe(batch))),
        "sample": (config.sample.every, run.save_pictures),
        "save": (config.checkpoint.every, run.save_checkpoint),
    }


def _seconds(act: Callable[[int], Any], subject: Subject) -> float:
    step = count(1)
    act(next(step))
    seconds = seconds_of(lambda: act(next(step)), TIMES, subject.cluster)
    return subject.cluster.on_main(lambda: seconds)


def share_of_run(seconds: float, every: int, step_seconds: float) -> float:
    """What takes `seconds` after every so many steps (0: never), as a share of the run's time."""
    return seconds / (seconds + every * step_seconds) if every else 0.0
