"""Processes that hang or die during a run: the others end in time and print their rank and phase."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from infogan_dist.config.running import ProcessesConfig
from infogan_dist.distributed import group
from infogan_dist.distributed.group import Group
from infogan_dist.distributed.watchdog import RankLost, Watchdog
from infogan_dist.errors import UserError
from tests.conftest import ONE_PROCESS, clean_environment

TIMEOUT = 10  # seconds, processes.timeout of the run

Start = Callable[[], "subprocess.Popen[str]"]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Two processes in the middle of a long run."""
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
    launcher += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    train = ["-m", "infogan_dist", "train", "debug", "train.steps=1000000", "networks.width=4", "log.every=1"]
    process = subprocess.Popen(
        [sys.executable, *launcher, *train, f"processes.timeout={TIMEOUT}"],
        cwd=tmp_path,
        env=clean_environment(TORCH_ELASTIC_SHUTDOWN_TIMEOUT="5"),
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = tmp_path / "runs" / "debug" / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") > 3):
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.1)
    yield process
    for child in workers(process):
        os.kill(child, signal.SIGKILL)
    process.kill()
    process.wait()


def workers(launcher: subprocess.Popen[str]) -> list[int]:
    """The process ids of the ranks, in order."""
    listed = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children")
    children = [int(child) for child in listed.read_text().split()] if listed.exists() else []
    ranks = {}
    for child in children:
        variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        ranks |= {int(v.removeprefix(b"RANK=")): child for v in variables if v.startswith(b"RANK=")}
    return [ranks[rank] for rank in sorted(ranks)]


def test_hanging_rank_ends_the_run_and_names_rank_and_phase(running: subprocess.Popen[str], tmp_path: Path) -> None:
    os.kill(workers(running)[1], signal.SIGSTOP)
    _, printed = running.communicate(timeout=120)
    (line,) = (line for line in printed.splitlines() if "has made no progress" in line)
    started = f"infogan-dist: rank 0 of 2 on {os.uname().nodename} has made no progress for {TIMEOUT} s (processes.timeout) in: "
    assert line.startswith(
        (f"{started}forward", f"{started}asking all ranks", f"{started}averaging", f"{started}waiting")
    )
    assert running.returncode != 0
    assert line.removeprefix("infogan-dist: ") in (tmp_path / "runs" / "debug" / "FAILED").read_text()


def test_survivors_of_a_dead_rank_log_their_phase(running: subprocess.Popen[str]) -> None:
    os.kill(workers(running)[1], signal.SIGKILL)
    _, printed = running.communicate(timeout=120)
    lost = f"infogan-dist: rank 0 of 2 on {os.uname().nodename} lost another rank in: "
    assert sum(line.startswith(lost) for line in printed.splitlines()) == 1  # torchrun's summary has no prefix
    assert printed.count("Traceback (most recent call last)") == 1  # torchrun's own, for the rank that was killed


def test_gpus_that_accelerate_refuses_are_an_error_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accelerate refuses several RTX 40 with an old driver, unless `accelerate launch` set the variables that it names."""

    def refuse(**settings: object) -> None:
        raise NotImplementedError("Using RTX 4000 series doesn't support P2P.\nPlease set NCCL_P2P_DISABLE")

    monkeypatch.setattr(group, "PartialState", refuse)
    with pytest.raises(UserError, match=r"support P2P\. Please set NCCL_P2P_DISABLE"):
        Group(ONE_PROCESS, 1, ProcessesConfig())


class Left(NamedTuple):
    """What a group did when it was left: whether it aborted first, and the phase that the watchdog would have named."""

    aborted: bool
    phase: str
    watched: bool
    watched_after: bool


def left_with(error: BaseException | None, monkeypatch: pytest.MonkeyPatch) -> Left:
    """Leave a group of one process whose backend is set to NCCL."""
    left = Group(ONE_PROCESS, 1, ProcessesConfig())
    watchdog = left._watchdog = Watchdog("rank 0 of 2", 600)
    seen: list[tuple[str, bool]] = []
    aborted: list[bool] = []
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed.distributed_c10d, "_abort_process_group", lambda: aborted.append(True))
    left._state.backend = "nccl"
    left._state.destroy_process_group = lambda: seen.append((watchdog.phase, not watchdog._closed.is_set()))
    with suppress(type(error)) if error is not None else nullcontext(), left:
        if error is not None:
            raise error
    ((phase, watched),) = seen
    return Left(bool(aborted), phase, watched, not watchdog._closed.is_set())


def test_watchdog_runs_until_the_group_is_destroyed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert left_with(None, monkeypatch) == Left(False, "leaving", watched=True, watched_after=False)


@pytest.mark.parametrize(
    ("error", "alone"), [(UserError("a"), False), (RankLost("a"), True), (ValueError("a"), True), (SystemExit(1), True)]
)
def test_failing_rank_does_not_wait_for_the_others(
    error: BaseException, alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = left_with(error, monkeypatch)
    assert left.aborted is alone
    assert left.watched
    assert left.phase.startswith(f"leaving after {type(error).__name__}: ")
