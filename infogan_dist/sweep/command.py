"""Trains every run of a sweep, several at a time, then evaluates all runs."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infogan_dist.checkpoints.resume import check_writable, is_finished
from infogan_dist.checkpoints.run_lock import RunLock
from infogan_dist.config.reading import load_config
from infogan_dist.distributed.launcher import Launch
from infogan_dist.errors import InfoganError, StoppedBySignal, UserError
from infogan_dist.evaluation import json_file
from infogan_dist.evaluation.command import EvaluateOptions, evaluate
from infogan_dist.evaluation.runs import is_run
from infogan_dist.sweep.child import LOG, Child, Share, shares
from infogan_dist.sweep.combinations import Combination
from infogan_dist.training.signals import StopRequest

POLL_INTERVAL = 0.1  # seconds


@dataclass(frozen=True)
class SweepOptions:
    """The config, runs and folder of a sweep, the launcher of each run, and the number of runs that train at a time."""

    config: str
    runs: tuple[Combination, ...]
    folder: Path
    launcher: tuple[str, ...] = ()
    jobs: int = 1


def sweep(options: SweepOptions, launch: Launch) -> None:
    """Train the runs that are not DONE, then print evaluate's table and write it to evaluation.json in the sweep's folder.

    A failed run is a row of the table and does not stop the others. Raises UserError, before anything is written, if a run's config
    is wrong or its folder holds another run; StoppedBySignal after the runs in progress have saved; InfoganError after the table
    if a run failed.
    """
    if is_run(options.folder):
        raise UserError(f"--output {options.folder} holds a run; choose a folder for the sweep's runs")
    check_writable(options.folder)
    waiting = [run for run in options.runs if not is_finished(load_config(options.config, run.overrides))]
    options.folder.mkdir(parents=True, exist_ok=True)
    lock = RunLock(options.folder)
    try:
        with StopRequest() as stop:
            failed = _train(waiting, options, stop)
    finally:
        lock.close()
    if stop.requested:
        raise StoppedBySignal(
            "stopped by a signal; the runs in progress were asked to save, and the same command continues"
        )
    table = options.folder / json_file.NAME
    unmarked = {path: reason for path, reason in failed.items() if not (path / "FAILED").exists()}
    evaluate(EvaluateOptions(tuple(run.output for run in options.runs), out=table, failed=unmarked), launch)
    print(table)
    if failed:
        raise InfoganError(
            f"{len(failed)} of {len(options.runs)} runs failed to train; the same command tries them again"
        )


def _train(runs: Sequence[Combination], options: SweepOptions, stop: StopRequest) -> dict[Path, str]:
    """Train the runs. Returns the reason of each failure by run folder."""
    total, done = len(options.runs), len(options.runs) - len(runs)
    before = f", {done} of them done before" if done else ""
    print(f"{total} runs{before}; each logs to {options.folder}/RUN/{LOG}", flush=True)
    waiting, free = deque(runs), deque(shares(options.jobs, _gpus() if options.jobs > 1 else []))
    running: dict[Child, Share] = {}
    failed: dict[Path, str] = {}
    stopping = False
    while running or (waiting and not stop.requested):
        while waiting and free and not stop.requested:
            run, share = waiting.popleft(), free.popleft()
            print(f"{run.name}: started", flush=True)
            running[Child(run, options.config, options.launcher, share)] = share
        if stop.requested and not stopping:
            stopping = True
            for child in running:
                child.stop()
        for child in [child for child in running if not child.running]:
            free.append(running.pop(child))
            reason = child.failure()
            if reason is not None:
                failed[child.run.output] = reason
            done += reason is None
            state = f"done ({done} of {total})" if reason is None else reason if stop.requested else f"FAILED: {reason}"
            print(f"{child.run.name}: {state}", flush=True)
        time.sleep(POLL_INTERVAL)
    return failed


def _gpus() -> list[str]:
    """The GPUs that this process sees, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]
