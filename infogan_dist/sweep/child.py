"""One `train` command of a sweep, as a process whose output goes to train.log in its run folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from infogan_dist.distributed.cores import share_of
from infogan_dist.distributed.launcher import RANK_PREFIXES
from infogan_dist.errors import StoppedBySignal, UserError
from infogan_dist.sweep.combinations import Combination
from infogan_dist.training.signals import send_when_parent_ends

LOG = "train.log"
MESSAGE = "infogan-dist: "
TAIL = 2**16  # bytes: the end of a log, which is searched for the reason of a failure


@dataclass(frozen=True)
class Share:
    """The cores and the GPU that one of several concurrent runs uses; None for all."""

    cores: frozenset[int] | None = None
    gpu: str | None = None


def shares(jobs: int, gpus: Sequence[str]) -> list[Share]:
    """A share of this host for each of `jobs` concurrent runs: equal parts of the cores, and the GPUs in turn."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    return [
        Share(
            frozenset(share_of(cores, slot, jobs)) if 1 < jobs <= len(cores) else None,
            gpus[slot % len(gpus)] if jobs > 1 and len(gpus) > 1 else None,
        )
        for slot in range(jobs)
    ]


class Child:
    """A running `train` command. When this process ends, even by SIGKILL, Linux sends the child SIGTERM, so that it saves and ends.

    `launcher` is a command that starts `-m infogan_dist train`, such as torchrun, split into words; empty for this interpreter.
    Raises UserError if the launcher cannot be started.
    """

    def __init__(self, run: Combination, config: str, launcher: Sequence[str], share: Share):
        self.run = run
        run.output.mkdir(parents=True, exist_ok=True)
        self._log = run.output / LOG
        self._launched = bool(launcher)
        command = [*(launcher or (sys.executable,)), "-m", "infogan_dist", "train", config, *run.overrides]
        with self._log.open("ab") as log:
            self._start = log.tell()
            try:
                self._process = subprocess.Popen(  # noqa: S603
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=_environment(share),
                    process_group=0,  # so that Ctrl-C in a terminal does not signal it too: a second signal stops it without saving
                    preexec_fn=lambda: _prepare(share),
                )
            except OSError as error:
                raise UserError(f"--launcher {command[0]} cannot be started: {error.strerror}") from error

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        """Ask it to save and end."""
        self._process.terminate()

    def failure(self) -> str | None:
        """Why the command failed: the last line that it printed, or the signal that killed it. None if it succeeded."""
        code = self._process.returncode
        if code == 0:
            return None
        if code == StoppedBySignal.exit_code or (self.run.output / "PREEMPTED").exists():
            return "stopped by a signal"
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        lines = self._printed()
        # a launcher prints its own summary after our message
        ours = [line for line in lines if line.startswith(MESSAGE)] if self._launched else lines[-1:]
        return ours[-1].removeprefix(MESSAGE) if ours else f"exit code {code}"

    def _printed(self) -> list[str]:
        """The last lines that this command logged, without blank ones."""
        with self._log.open("rb") as log:
            log.seek(max(self._start, log.seek(0, os.SEEK_END) - TAIL))
            lines = log.read().decode(errors="replace").replace("\r", "\n").splitlines()
        return [line for line in lines if line.strip()]


def _environment(share: Share) -> dict[str, str]:
    """The environment of this process without the variables of a launcher."""
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith((*RANK_PREFIXES, "ACCELERATE_"))
    }
    return environment | ({"CUDA_VISIBLE_DEVICES": share.gpu} if share.gpu is not None else {})


def _prepare(share: Share) -> None:
    """Prepare the child process before it starts its program."""
    send_when_parent_ends(signal.SIGTERM)
    if share.cores is not None:
        os.sched_setaffinity(0, share.cores)
