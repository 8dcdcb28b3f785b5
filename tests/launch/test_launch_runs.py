"""Runs the commands of the launch files, with local processes as hosts and stubs of SLURM's programs."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, clean_environment
from tests.launch.test_launch_files import PYTORCHJOB, SBATCH, SKYPILOT, TRAINJOB, pods

TIMEOUT = 240  # seconds; a run takes about ten
TINY = (
    "networks.width=4",
    "train.global_batch=12",
    "train.precision=fp64",
    "train.threads=1",
    "sample.every=0",
    "log.every=1",
)

SRUN = """#!{python}
import argparse, os, signal, subprocess, sys
parser = argparse.ArgumentParser(allow_abbrev=False)
for option in ("--ntasks-per-node", "--cpus-per-task", "--kill-on-bad-exit", "--wait"):
    parser.add_argument(option, type=int, required=True)
parser.add_argument("command", nargs=argparse.REMAINDER)
command, tasks = parser.parse_args().command, []
signal.signal(signal.SIGUSR1, lambda *_: [task.send_signal(signal.SIGUSR1) for task in tasks])
signal.signal(signal.SIGTERM, lambda *_: [task.kill() for task in tasks])  # as the real one: "forcing job termination"
for node in map(str, range(int(os.environ["SLURM_JOB_NUM_NODES"]))):
    tasks.append(subprocess.Popen(command, env=os.environ | dict(SLURM_NODEID=node, SLURM_PROCID=node)))
    print(tasks[-1].pid, file=open(sys.argv[0] + ".tasks", "a"))
sys.exit(max(code if code >= 0 else 128 - code for code in [task.wait() for task in tasks]))
"""
SCONTROL = """#!/bin/sh
case "$1 $2" in
  "show hostnames") [ "$3" = "$SLURM_JOB_NODELIST" ] && printf 'localhost\\nlocalhost\\n' ;;
  "requeue $SLURM_JOB_ID") echo "$SLURM_JOB_ID" >> "$(dirname "$0")/requeued" ;;
  *) exit 1 ;;
esac
"""


class Started:
    """A process, its output and its exit code."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str]):
        self._log = folder / f"{len(list(folder.glob('*.log')))}.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    @property
    def output(self) -> str:
        return self._log.read_text()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def exit_code(self) -> int:
        """Wait for its exit code. Fails with its output after a timeout."""
        try:
            return self._process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            pytest.fail(self.output)

    def wait_for(self, path: Path) -> None:
        """Wait until it has written a file. Fails with its output after a timeout."""
        deadline = time.monotonic() + TIMEOUT
        while not path.exists() or not path.stat().st_size:
            if self._process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(self.output)
            time.sleep(0.05)


Start = Callable[..., Started]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a process in an empty folder, without GPUs. Afterwards none of its descendants may be running."""
    mark = f"LAUNCH_TEST={tmp_path}"

    def left() -> list[int]:
        found = []
        for environment in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark.encode() in environment.read_bytes().split(b"\0"):
                    found.append(int(environment.parent.name))
            except OSError:  # of another user, or ended
                continue
        return found

    def run(command: list[str], **variables: str) -> Started:
        environment = {
            key: value for key, value in clean_environment().items() if not key.startswith(("SLURM_", "PET_"))
        }
        paths = os.pathsep.join([str(tmp_path / "bin"), sysconfig.get_path("scripts"), environment["PATH"]])
        return Started(
            command,
            tmp_path,
            environment | {"LAUNCH_TEST": str(tmp_path), "CUDA_VISIBLE_DEVICES": "", "PATH": paths} | variables,
        )

    yield run
    deadline = time.monotonic() + 10
    while left() and time.monotonic() < deadline:
        time.sleep(0.1)
    orphans = left()
    for process in orphans:
        os.kill(process, signal.SIGKILL)
    assert orphans == []


def free_port() -> int:
    """A free port in the range of the SLURM script, which is below the ephemeral ports."""
    while True:
        port = random.randrange(20000, 30000)
        with socket.socket() as candidate, suppress(OSError):
            candidate.bind(("", port))
            return port


class Slurm:
    """Submits the script as SLURM would run it."""

    def __init__(self, folder: Path, start: Start):
        self.run, self._start, self._bin = folder / "run", start, folder / "bin"
        self._bin.mkdir()
        for name, text in (("srun", SRUN.format(python=sys.executable)), ("scontrol", SCONTROL)):
            (self._bin / name).write_text(text)
            (self._bin / name).chmod(0o755)

    def submit(self, *overrides: str, nodes: int = 2, **variables: str) -> Started:
        job = {"SLURM_JOB_ID": str(50000 + free_port()), "SLURM_JOB_NODELIST": "node[1-2]"}
        job |= {"SLURM_JOB_NUM_NODES": str(nodes)} | variables
        return self._start(["bash", str(SBATCH), "debug", f"output={self.run}", *TINY, *overrides], **job)

    def submit_endless(self, nodes: int = 2, **variables: str) -> Started:
        """A job in the middle of a long run."""
        job = self.submit("train.steps=1000000", "checkpoint.every=0", nodes=nodes, **variables)
        job.wait_for(self.run / "metrics.jsonl")
        return job

    def terminate_tasks(self) -> None:
        """Signal the steps of a job as SLURM does after a preemption with a grace time or a cancellation."""
        for task in (self._bin / "srun.tasks").read_text().split():
            os.kill(int(task), signal.SIGTERM)

    @property
    def requeued(self) -> int:
        """The number of requeued jobs."""
        return len((self._bin / "requeued").read_text().split()) if (self._bin / "requeued").exists() else 0

    @property
    def checkpoints(self) -> list[str]:
        return sorted(path.name for path in (self.run / "checkpoints").iterdir())

    @property
    def markers(self) -> list[str]:
        return [name for name in ("DONE", "PREEMPTED", "FAILED") if (self.run / name).exists()]


@pytest.fixture
def slurm(tmp_path: Path, start: Start) -> Slurm:
    return Slurm(tmp_path, start)


def test_preempted_slurm_job_saves_is_requeued_and_finishes(slurm: Slurm) -> None:
    first = slurm.submit_endless()
    first.send(signal.SIGUSR1)
    assert first.exit_code() == 0, first.output
    assert "2 processes of 6 images a step" in first.output
    assert (slurm.markers, slurm.requeued) == (["PREEMPTED"], 1)
    (checkpoint,) = slurm.checkpoints
    reached = int(checkpoint.removeprefix("step-"))

    second = slurm.submit(f"train.steps={reached + 5}", SLURM_RESTART_COUNT="1")
    assert second.exit_code() == 0, second.output
    assert f"continuing after step {reached}: 2 processes" in second.output
    assert (slurm.markers, slurm.requeued) == (["DONE"], 1)
    assert slurm.checkpoints == [checkpoint, f"step-{reached + 5:08d}"]
    rows = [json.loads(line)["step"] for line in (slurm.run / "metrics.jsonl").read_text().splitlines()]
    assert rows == list(range(1, reached + 6))


def test_slurm_job_requeued_too_often_is_not_requeued(slurm: Slurm) -> None:
    job = slurm.submit_endless(nodes=1, SLURM_RESTART_COUNT="2", MAX_REQUEUES="2")
    slurm.terminate_tasks()
    assert job.exit_code() == 1, job.output
    assert "MAX_REQUEUES (2) is reached" in job.output
    assert (slurm.markers, slurm.requeued) == (["PREEMPTED"], 0)


def test_cancelled_slurm_job_is_not_requeued(slurm: Slurm) -> None:
    job = slurm.submit_endless(nodes=1)
    job.send(signal.SIGTERM)  # scancel's, to the script as well
    slurm.terminate_tasks()
    assert job.exit_code() == 1, job.output
    assert (slurm.markers, slurm.requeued) == (["PREEMPTED"], 0)


def test_slurm_job_with_a_wrong_config_starts_no_processes(slurm: Slurm) -> None:
    job = slurm.submit("train.stepz=6")
    assert job.exit_code() == 2
    assert job.output.count("\n") == 1
    assert "did you mean train.steps" in job.output
    assert not slurm.run.exists()


def test_failed_slurm_job_is_not_requeued(slurm: Slurm) -> None:
    slurm.run.mkdir()
    (slurm.run / "samples").touch()  # in place of the folder of pictures
    job = slurm.submit("train.steps=2", "sample.every=1", nodes=1, SLURM_GPUS_ON_NODE="2")
    assert job.exit_code() == 1, job.output
    assert "2 processes of 6 images a step" in job.output  # one per GPU
    assert (slurm.markers, slurm.requeued) == (["FAILED"], 0)


def test_refused_slurm_job_is_not_requeued_for_an_old_marker(slurm: Slurm) -> None:
    slurm.run.mkdir()
    (slurm.run / "PREEMPTED").touch()
    job = slurm.submit("train.global_batch=13")
    assert job.exit_code() == 1, job.output
    assert "train.global_batch = 13 is not divisible by 2 processes" in job.output
    assert (slurm.markers, slurm.requeued) == ([], 0)


# The commands of Kubernetes and SkyPilot, with the variables that these set: two nodes of four processes connect and read the config


def assert_nodes_meet(start: Start, commands: list[list[str]], variables: list[dict[str, str]]) -> None:
    """torchrun starts no process before all nodes have joined. Each process checks its config against their number."""
    nodes = [start(command, **given) for command, given in zip(commands, variables, strict=True)]
    for node in nodes:
        assert node.exit_code() == 0, node.output
        assert re.search(r"^output: /runs/mnist$", node.output, re.MULTILINE), node.output


@pytest.mark.parametrize("path", [TRAINJOB, PYTORCHJOB], ids=lambda path: path.stem)
def test_pods_of_a_kubernetes_job_connect(path: Path, tmp_path: Path, start: Start) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")  # as in the image
    operator = {"PET_NNODES": "2", "PET_NPROC_PER_NODE": "4"}
    operator |= {name.format("ADDR"): "localhost" for name in ("MASTER_{}", "PET_MASTER_{}")}
    operator |= {name.format("PORT"): str(free_port()) for name in ("MASTER_{}", "PET_MASTER_{}")}
    commands, variables = [], []
    for rank, pod in enumerate(pods(yaml.safe_load(path.read_text()))):
        (container,) = pod["containers"]
        words = [*container["command"], *container.get("args", []), "--dry-run"]
        commands.append([re.sub(r"\$\((\w+)\)", lambda found: operator[found[1]], word) for word in words])
        own = {entry["name"]: entry["value"] for entry in container["env"]}
        variables.append(operator | own | {"PET_NODE_RANK": str(rank)})
    assert_nodes_meet(start, commands, variables)


def test_nodes_of_a_skypilot_task_connect(tmp_path: Path, start: Start) -> None:
    task = yaml.safe_load(SKYPILOT.read_text())
    (tmp_path / "configs").symlink_to(ROOT / "configs")  # its workdir is the checkout
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(sysconfig.get_path("scripts"))
    script = task["run"].replace("29500", str(free_port())).rstrip() + " --dry-run"
    shared = {"SKYPILOT_NUM_NODES": "2", "SKYPILOT_NUM_GPUS_PER_NODE": "4", "SKYPILOT_NODE_IPS": "localhost\nlocalhost"}
    variables = [{**shared, **task["envs"], "SKYPILOT_NODE_RANK": rank} for rank in "01"]
    assert_nodes_meet(start, [["bash", "-c", script]] * 2, variables)
