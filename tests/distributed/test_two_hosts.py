"""Two hosts with separate networks and folders: network namespaces connected by a veth pair, with torchrun in each."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from infogan_dist.checkpoints import store as checkpoints
from infogan_dist.config.reading import load_config
from infogan_dist.training.loop import train
from tests.conftest import ONE_PROCESS, clean_environment

CABLE = "veth0"  # name of the interface on both hosts
PORT = "29500"  # free, because the namespaces are new
TINY = ("networks.width=4", "train={global_batch: 12, steps: 6, precision: fp64, threads: 1}", "sample.every=0")
TIMEOUT = 300  # seconds; a run takes about 20


@dataclass(frozen=True)
class Host:
    """A namespace with an address, and the folder in which its commands run. Their output is next to the folder."""

    namespace: str
    address: str
    folder: Path

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start Python with these arguments on this host, without GPUs."""
        command = ["ip", "netns", "exec", self.namespace, sys.executable, *arguments]
        environment = clean_environment(ACCELERATE_USE_CPU="true")
        with self._log("stdout").open("wb") as stdout, self._log("stderr").open("wb") as stderr:
            return subprocess.Popen(command, cwd=self.folder, env=environment, stdout=stdout, stderr=stderr)

    def output(self, stream: str = "stdout") -> str:
        return self._log(stream).read_text(errors="replace")

    def _log(self, stream: str) -> Path:
        return self.folder.with_suffix(f".{stream}")


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    """Two hosts that reach only each other. Skips the test if they cannot be made."""
    if shutil.which("ip") is None:
        pytest.skip("two hosts need the command `ip` (iproute2), which is not installed")
    names = [f"infogan-{os.getpid()}-{number}" for number in (1, 2)]
    with removed_at_the_end(names):
        for name in names:
            allowed("netns", "add", name)
            allowed("netns", "exec", name, "true")
        allowed("-n", names[0], "link", "add", CABLE, "type", "veth", "peer", "name", CABLE, "netns", names[1])
        first, second = (Host(name, f"10.77.0.{n}", tmp_path / f"host{n}") for n, name in enumerate(names, start=1))
        for host in (first, second):
            host.folder.mkdir()
            ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", CABLE).check_returncode()
            for interface in ("lo", CABLE):
                ip("-n", host.namespace, "link", "set", interface, "up").check_returncode()
        yield first, second


@contextmanager
def removed_at_the_end(names: list[str]) -> Iterator[None]:
    """Kill the processes in these namespaces and delete those that exist."""
    try:
        yield
    finally:
        for name in names:
            for process in ip("netns", "pids", name).stdout.split():
                with suppress(ProcessLookupError):
                    os.kill(int(process), signal.SIGKILL)
            ip("netns", "delete", name)


def ip(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=60)


def allowed(*arguments: str) -> None:
    """Run a command that needs privileges and kernel support. Skips the test with the reason if it fails."""
    result = ip(*arguments)
    if result.returncode:
        pytest.skip(f"two hosts cannot be made here: `ip {' '.join(arguments)}`: {result.stderr.strip()}")


def train_together(hosts: tuple[Host, Host]) -> None:
    """Run the same training command on both hosts, one process each. The first host is the master."""
    meeting = ("--nnodes", "2", "--nproc-per-node", "1", "--master-addr", hosts[0].address, "--master-port", PORT)
    command = ("-m", "infogan_dist", "train", "debug", "output=run", *TINY)
    running = [
        host.start("-m", "torch.distributed.run", *meeting, "--node-rank", str(rank), *command)
        for rank, host in enumerate(hosts)
    ]
    for process in running:
        with suppress(subprocess.TimeoutExpired):
            process.wait(TIMEOUT)
        assert process.returncode == 0, "\n".join(f"{host.folder.name}: {host.output('stderr')}" for host in hosts)


def train_alone(output: Path, *overrides: str) -> Path:
    """Train the same run in one process. Returns its folder."""
    train(load_config("debug", [f"output={output}", *TINY, *overrides]), ONE_PROCESS)
    return output


def assert_same_to_rounding(run: Path, other: Path) -> None:
    """Assert that the newest checkpoints of two runs have the same step and tensors, of networks and optimizers."""
    ours, theirs = checkpoints.find(run), checkpoints.find(other)
    assert ours.step == theirs.step
    state, expected = ours.load(), theirs.load()
    assert state.keys() == expected.keys() == {"G", "G_ema", "FE", "D", "Q", "optimizer_D", "optimizer_G"}
    for name, tensors in expected.items():
        assert state[name].keys() == tensors.keys()
        for key, tensor in tensors.items():
            assert (state[name][key] - tensor).abs().max() <= 1e-9, f"{name}.{key}"


def test_two_hosts_train_the_same_networks_as_one_process(hosts: tuple[Host, Host], tmp_path: Path) -> None:
    first, second = hosts
    train_together(hosts)
    assert "from the start: 2 processes of 6 images" in first.output()
    assert (first.folder / "run" / "DONE").exists()
    assert list(second.folder.iterdir()) == []  # only rank zero's host writes
    assert second.output() == ""  # messages are printed on one host only
    assert_same_to_rounding(first.folder / "run", train_alone(tmp_path / "alone"))


def test_two_hosts_continue_a_run_without_a_shared_disk(hosts: tuple[Host, Host], tmp_path: Path) -> None:
    first, second = hosts
    train_alone(first.folder / "run", "train.steps=2")
    train_together(hosts)
    assert "continuing after step 2: 2 processes of 6 images" in first.output()
    assert list(second.folder.iterdir()) == []
    assert_same_to_rounding(first.folder / "run", train_alone(tmp_path / "alone"))
