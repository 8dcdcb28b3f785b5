"""Launchers: processes of every launcher train the same networks as one process, and survive its end."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import pytest

from infogan_dist.checkpoints.store import find
from tests.faults.harness import (
    TIMEOUT,
    TINY,
    LauncherProcess,
    Variables,
    Workspace,
    accelerate_launch,
    final_bytes,
    markers,
    messages,
    only_message,
    steps_logged,
    torchrun,
)


def of_mpirun(rank: int, processes: int) -> dict[str, str]:
    place = {"SIZE": processes, "RANK": rank, "LOCAL_SIZE": processes, "LOCAL_RANK": rank}
    return {f"OMPI_COMM_WORLD_{name}": str(value) for name, value in place.items()}


def of_srun(rank: int, processes: int) -> dict[str, str]:
    place = {
        "STEP_NUM_TASKS": processes,
        "STEP_TASKS_PER_NODE": processes,
        "PROCID": rank,
        "LOCALID": rank,
        "NODEID": 0,
    }
    return {f"SLURM_{name}": str(value) for name, value in place.items()}


@pytest.mark.parametrize("variables", [of_mpirun, of_srun])
def test_processes_of_mpirun_and_srun_train_the_same_networks_as_one(
    workspace: Workspace, undisturbed: Path, variables: Variables
) -> None:
    for rank in workspace.train(processes=2, variables=variables):
        assert rank.exit_code() == 0, rank.err
    ours, one = find(workspace.folder / "run").load(), find(undisturbed).load()
    for name, tensors in one.items():
        for key, tensor in tensors.items():
            assert (ours[name][key] - tensor).abs().max() <= 1e-9, f"{name}.{key}"
    assert markers(workspace.folder / "run") == ["DONE"]


@pytest.mark.parametrize("variables", [of_mpirun, of_srun])
def test_indivisible_batch_is_refused_under_every_launcher(workspace: Workspace, variables: Variables) -> None:
    ranks = workspace.train("run", "train.global_batch=3", processes=2, variables=variables)
    assert [rank.exit_code() for rank in ranks] == [2, 2]
    only_message(ranks[0].err, "train.global_batch = 3 is not divisible by 2 processes; use 2 or 4")
    assert ranks[1].err == ""
    assert not (workspace.folder / "run").exists()


def continues_at_once(folder: Path, command: list[str], undisturbed: Path, steps: int) -> None:
    """Give the command again at once: it waits for the process that still saves, and the run ends with the bytes of an undisturbed one."""
    again = LauncherProcess(command, folder)
    again.wait_for("waiting up to 60 s for process ")
    assert "PREEMPTED" not in markers(folder / "run")
    (folder / "release").touch()
    assert again.exit_code() == 0, again.output
    assert again.output.count("waiting up to") == 1
    assert "which is stopping, to leave run" in again.output
    assert final_bytes(folder / "run", steps) == final_bytes(undisturbed, steps)
    assert steps_logged(folder / "run") == list(range(1, steps + 1))
    assert markers(folder / "run") == ["DONE"]


def test_sigterm_to_accelerate_launch_and_the_same_command_end_with_the_same_bytes(
    tmp_path: Path, undisturbed: Path
) -> None:
    train = ("train", *TINY, "output=run")
    first = LauncherProcess(accelerate_launch(*train, faults="term-launcher@3,hold-save@3"), tmp_path)
    assert first.exit_code() == -15, first.output  # accelerate launch does not wait for its process
    continues_at_once(tmp_path, accelerate_launch(*train), undisturbed, 6)
    first_message, last = messages(first.output)
    assert "the launcher has ended: stopping after this step" in first_message
    assert "stopped by a signal after step 3 and saved" in last


@pytest.fixture(scope="module")
def twelve_steps_of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = Workspace(tmp_path_factory.mktemp("twelve"))
    for rank in workspace.train("run", "train.steps=12", processes=2):
        assert rank.exit_code() == 0, rank.err
    return workspace.folder / "run"


def test_sigterm_to_torchrun_and_the_same_command_end_with_the_same_bytes(
    tmp_path: Path, twelve_steps_of_two: Path
) -> None:
    train = ("train", *TINY, "output=run", "train.steps=12")
    first = LauncherProcess(torchrun(*train, faults="term-launcher@3#0"), tmp_path)
    assert first.exit_code() != 0
    assert "stopped by a signal after step 10 and saved" in first.output  # the ranks poll each other every 10 steps
    assert markers(tmp_path / "run") == ["PREEMPTED"]
    again = LauncherProcess(torchrun(*train), tmp_path)
    assert again.exit_code() == 0, again.output
    assert final_bytes(tmp_path / "run", 12) == final_bytes(twelve_steps_of_two, 12)


def test_kill_of_torchrun_and_the_same_command_end_with_the_same_bytes(
    tmp_path: Path, twelve_steps_of_two: Path
) -> None:
    train = ("train", *TINY, "output=run", "train.steps=12")
    first = LauncherProcess(torchrun(*train, faults="kill-launcher@3#0,hold-save@10"), tmp_path)
    assert first.exit_code() == -9
    continues_at_once(tmp_path, torchrun(*train), twelve_steps_of_two, 12)
    assert "stopped by a signal after step 10 and saved" in first.output


def test_run_without_a_launcher_outlives_its_shell(tmp_path: Path) -> None:
    words = " ".join(f"'{word}'" for word in ("train", *TINY, "output=run"))
    command = f"nohup {sys.executable} -m tests.faults.faults no-pictures {words} &"
    assert LauncherProcess(["sh", "-c", command], tmp_path, ACCELERATE_MIXED_PRECISION="no").exit_code() == 0
    deadline = time.monotonic() + TIMEOUT
    while not markers(tmp_path / "run") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert markers(tmp_path / "run") == ["DONE"]


def test_second_command_waits_only_for_a_stopping_process(workspace: Workspace, undisturbed: Path) -> None:
    command = ("train", *TINY, "output=run")
    (first,) = workspace.start(*command, faults="hold-save@2")
    first.wait_for(workspace.folder / "run" / ".lock")
    (refused,) = workspace.train()
    assert refused.exit_code() == 2
    only_message(refused.err, f"run is in use by process {first.pid} on", "wait for it or choose another output")
    assert "waiting" not in refused.out
    first.send(signal.SIGTERM)
    (second,) = workspace.start(*command)
    while "waiting up to 60 s" not in second.out and second.alive():
        time.sleep(0.02)
    (workspace.folder / "release").touch()
    assert first.exit_code() == 75, first.err
    assert second.exit_code() == 0, second.err
    assert final_bytes(workspace.folder / "run") == final_bytes(undisturbed)
