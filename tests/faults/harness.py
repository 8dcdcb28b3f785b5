"""Shared by the fault tests: runs commands as real processes, one or several ranks, and inspects run folders.

A process is forked from one that has imported everything, which saves three seconds of importing.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from infogan_dist.checkpoints.store import folders, verify
from tests.conftest import ROOT, clean_environment

TIMEOUT = 120  # seconds; a command takes about two
LAUNCH_TIMEOUT = 300  # seconds for launchers, which import torch before their processes do
STEPS = 6
TINY = (
    *("debug", "networks.width=2", "train.threads=1", "train.precision=fp64", "train.global_batch=12"),
    *(f"train.steps={STEPS}", "latents={noise: [{dim: 3}], categorical: [3], continuous: 0}"),
    *("sample.every=0", "checkpoint.every=2", "checkpoint.background=false", "log.every=1"),
)

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["infogan_dist.training.loop", "infogan_dist.sampling.generator", "tests.faults.faults"])

Variables = Callable[[int, int], dict[str, str]]  # (rank, processes) -> environment variables


def _become(command: list[str], faults: str, folder: Path, log: Path, environment: dict[str, str]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
    os.chdir(folder)
    os.environ.update(environment)
    for number, ending in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{log}.{ending}", os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)

    from tests.faults.faults import main

    sys.exit(main([faults, *command]))


class CommandProcess:
    """A command in a separate process, its output and its exit code."""

    def __init__(self, command: Sequence[object], faults: str, folder: Path, environment: dict[str, str]):
        self._log = folder / f"{len(list(folder.glob('*.err')))}-{environment.get('RANK', '0')}"
        for ending in ("out", "err"):
            Path(f"{self._log}.{ending}").touch()
        words = [str(word) for word in command]
        self._process = _forks.Process(target=_become, args=(words, faults, folder, self._log, environment))
        self._process.start()

    @property
    def out(self) -> str:
        return Path(f"{self._log}.out").read_text()

    @property
    def err(self) -> str:
        return Path(f"{self._log}.err").read_text()

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    def messages(self) -> list[str]:
        """Its messages on stderr, without the progress bar. Asserts that there is no traceback."""
        return messages(self.err)

    def alive(self) -> bool:
        return self._process.is_alive()

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def exit_code(self) -> int:
        """Wait for its exit code, negative for a signal. Fails with its output after a timeout."""
        self._process.join(TIMEOUT)
        if self._process.exitcode is None:
            self._process.kill()
            pytest.fail(f"still running\n{self.out}\n{self.err}")
        return self._process.exitcode

    def wait_for(self, path: Path) -> None:
        """Wait until it has written a file. Fails with its output after a timeout."""
        deadline = time.monotonic() + TIMEOUT
        while not path.exists() or not path.stat().st_size:
            if not self._process.is_alive() or time.monotonic() > deadline:
                pytest.fail(f"{path} was not written\n{self.out}\n{self.err}")
            time.sleep(0.02)


class Workspace:
    """A folder in which commands run."""

    def __init__(self, folder: Path):
        self.folder = folder

    def start(
        self, *command: object, faults: str = "", processes: int = 1, variables: Variables | None = None
    ) -> list[CommandProcess]:
        """Start the ranks of a command. `variables` are those of their launcher, torchrun's if None."""
        if processes == 1:
            return [CommandProcess(command, faults, self.folder, {})]
        rendezvous = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "ACCELERATE_USE_CPU": "true"}
        ranks = [(variables or of_torchrun)(rank, processes) for rank in range(processes)]
        return [CommandProcess(command, faults, self.folder, rendezvous | of_rank) for of_rank in ranks]

    def train(
        self,
        output: str = "run",
        *overrides: str,
        faults: str = "",
        processes: int = 1,
        variables: Variables | None = None,
    ) -> list[CommandProcess]:
        """Train a tiny run to its end. Returns its ranks."""
        command = ("train", *TINY, f"output={output}", *overrides)
        ranks = self.start(*command, faults=faults, processes=processes, variables=variables)
        for rank in ranks:
            rank.exit_code()
        return ranks


def of_torchrun(rank: int, processes: int) -> dict[str, str]:
    values = (processes, rank, rank, processes)
    return dict(zip(("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE"), map(str, values), strict=True))


def free_port() -> int:
    with socket.socket() as candidate:
        candidate.bind(("127.0.0.1", 0))
        port: int = candidate.getsockname()[1]
        return port


def torchrun(*command: object, faults: str = "", processes: int = 2, restarts: int = 0) -> list[str]:
    """The command line of a command under torchrun."""
    words = ["--nproc-per-node", processes, "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    return [
        *(sys.executable, "-m", "torch.distributed.run"),
        *map(str, [*words, "--max-restarts", restarts, "-m", "tests.faults.faults", faults, *command]),
    ]


def accelerate_launch(*command: object, faults: str = "") -> list[str]:
    """The command line of a command under accelerate launch."""
    words = ["accelerate.commands.launch", "-m", "tests.faults.faults", faults]
    return [sys.executable, "-m", *words, *map(str, command)]


class LauncherProcess:
    """A launcher's process, its exit code, and its output with that of its children."""

    def __init__(self, command: list[str], folder: Path, **variables: str):
        own_store = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
        environment = clean_environment(PYTHONPATH=str(ROOT), CUDA_VISIBLE_DEVICES="", **own_store, **variables)
        self._log = folder / f"{len(list(folder.glob('*.log')))}.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)

    @property
    def output(self) -> str:
        return self._log.read_text()

    def exit_code(self) -> int:
        """Wait for its exit code. Fails with its output after a timeout."""
        try:
            return self._process.wait(LAUNCH_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            pytest.fail(self.output)

    def wait_for(self, words: str) -> None:
        """Wait until it has printed `words`. Fails with its output after a timeout."""
        deadline = time.monotonic() + LAUNCH_TIMEOUT
        while words not in self.output:
            if self._process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{words!r} was not printed\n{self.output}")
            time.sleep(0.05)


def run_torchrun(folder: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run torchrun without a shared store, with which restarted workers may wait forever."""
    own_store = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    environment = clean_environment(PYTHONPATH=str(ROOT), CUDA_VISIBLE_DEVICES="", **own_store)
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )


def final_bytes(run: Path, step: int = STEPS) -> dict[str, bytes]:
    """The content of every file of a checkpoint, after verifying it."""
    checkpoint = verify(run / "checkpoints" / f"step-{step:08d}")
    return {name: (checkpoint.path / name).read_bytes() for name in checkpoint.manifest["files"]}


def steps_kept(run: Path) -> list[int]:
    """The steps of the checkpoints, oldest first. Asserts that each one verifies and that the folder has nothing else."""
    found = folders(run / "checkpoints")
    assert {path.name for path in (run / "checkpoints").iterdir()} == {path.name for path in found}
    return [verify(path).step for path in reversed(found)]


def steps_logged(run: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def markers(run: Path) -> list[str]:
    return [name for name in ("DONE", "PREEMPTED", "FAILED") if (run / name).exists()]


def messages(text: str) -> list[str]:
    """The lines of infogan-dist in `text`. Asserts that there is no traceback."""
    assert "Traceback" not in text, text
    return [line for line in text.replace("\r", "\n").splitlines() if line.startswith("infogan-dist: ")]


def only_message(text: str, *words: str) -> str:
    """The only line of infogan-dist in `text`. Asserts that it contains every word, and that there is no traceback."""
    lines = messages(text)
    assert len(lines) == 1, text
    assert all(word in lines[0] for word in words), lines[0]
    return lines[0]


def tmpfs(folder: Path, options: str) -> Iterator[Path]:
    """A small file system mounted at `folder`. Skips the test if this user may not mount one."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"this user may not mount a file system ({mounted.stderr.strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)
