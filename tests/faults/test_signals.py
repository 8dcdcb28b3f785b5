"""Signals: the run saves once and exits with 75, wherever they arrive. A second one ends the process at once."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from infogan_dist.checkpoints.store import newest
from tests.faults.harness import TINY, Workspace, final_bytes, markers, only_message, steps_kept, steps_logged


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_signal_saves_once_and_the_same_command_continues(workspace: Workspace, undisturbed: Path, name: str) -> None:
    (stopped,) = workspace.train(faults=f"{name}@3")
    assert stopped.exit_code() == 75
    first, last = stopped.messages()
    assert f"{name}: stopping after this step" in first
    assert "stopped by a signal after step 3 and saved; the same command continues" in last
    assert steps_kept(workspace.folder / "run") == [2, 3]
    assert markers(workspace.folder / "run") == ["PREEMPTED"]
    (resumed,) = workspace.train()
    assert resumed.exit_code() == 0, resumed.err
    assert "lost" not in resumed.out
    assert final_bytes(workspace.folder / "run") == final_bytes(undisturbed)
    assert markers(workspace.folder / "run") == ["DONE"]


def test_signal_during_a_save_does_not_interrupt_it(workspace: Workspace, undisturbed: Path) -> None:
    (stopped,) = workspace.train(faults="term-in-save@4")
    assert stopped.exit_code() == 75, stopped.err
    assert steps_kept(workspace.folder / "run") == [2, 4, 5]
    (resumed,) = workspace.train()
    assert resumed.exit_code() == 0, resumed.err
    assert final_bytes(workspace.folder / "run") == final_bytes(undisturbed)


def test_second_signal_during_a_save_keeps_earlier_checkpoints(workspace: Workspace, undisturbed: Path) -> None:
    (stopped,) = workspace.train(faults="terms-in-save@4")
    assert stopped.exit_code() == 75, stopped.err
    found, complaints = newest(workspace.folder / "run/checkpoints")
    assert found is not None
    assert (found.step, complaints) == (2, [])
    (resumed,) = workspace.train()
    assert resumed.exit_code() == 0, resumed.err
    assert steps_kept(workspace.folder / "run") == [2, 4, 6]
    assert final_bytes(workspace.folder / "run") == final_bytes(undisturbed)


def test_signal_waits_for_pictures(workspace: Workspace) -> None:
    (stopped,) = workspace.train("run", "sample.every=3", faults="term-in-sampling@3")
    assert stopped.exit_code() == 75, stopped.err
    assert (workspace.folder / "run/samples/step-00000003.png").exists()
    assert steps_kept(workspace.folder / "run") == [2, 3]


def test_signal_waits_for_an_evaluation(workspace: Workspace) -> None:
    (stopped,) = workspace.train("run", "evaluate.every=3", faults="term-in-evaluation@3")
    assert stopped.exit_code() == 75, stopped.err
    assert '"kind": "evaluate"' in (workspace.folder / "run/metrics.jsonl").read_text()
    assert steps_kept(workspace.folder / "run") == [2, 3]


def test_second_signal_ends_the_process_at_once(workspace: Workspace, undisturbed: Path) -> None:
    (stopped,) = workspace.train(faults="term-twice@5")
    assert stopped.exit_code() == 75
    only_message(stopped.err, "a second signal stops at once")
    assert steps_kept(workspace.folder / "run") == [2, 4]
    assert markers(workspace.folder / "run") == []
    (resumed,) = workspace.train()
    assert resumed.exit_code() == 0, resumed.err
    assert final_bytes(workspace.folder / "run") == final_bytes(undisturbed)


@pytest.mark.parametrize("fault", ["ctrl-c-while-drawing", "sigterm-while-drawing"])
def test_signal_during_sample_prints_no_traceback(workspace: Workspace, undisturbed: Path, fault: str) -> None:
    (stopped,) = workspace.start("sample", undisturbed, "--out", "grid.png", faults=fault)
    assert stopped.exit_code() == 75
    assert stopped.err == "infogan-dist: stopped by a signal\n"
    assert not (workspace.folder / "grid.png").exists()


def test_signal_in_the_last_step_ends_a_done_run(workspace: Workspace, undisturbed: Path) -> None:
    (only,) = workspace.train(faults="SIGTERM@6")
    assert only.exit_code() == 0, only.err
    assert markers(workspace.folder / "run") == ["DONE"]
    assert final_bytes(workspace.folder / "run") == final_bytes(undisturbed)


def test_signal_to_one_rank_stops_all_ranks_at_the_same_step(workspace: Workspace) -> None:
    ranks = workspace.train("run", "train.steps=12", "checkpoint.every=0", faults="SIGTERM@3#1", processes=2)
    assert [rank.exit_code() for rank in ranks] == [75, 75]
    only_message(ranks[0].err, "stopped by a signal after step 10")
    assert steps_kept(workspace.folder / "run") == [10]  # the ranks poll each other every 10 steps
    assert markers(workspace.folder / "run") == ["PREEMPTED"]


def test_second_run_in_a_folder_is_refused_and_a_dead_lock_is_ignored(workspace: Workspace) -> None:
    (first,) = workspace.start(
        "train", *TINY, "output=run", "train.steps=1000000", "checkpoint.every=0", "log.every=50"
    )
    first.wait_for(workspace.folder / "run" / "metrics.jsonl")
    (second,) = workspace.train()
    assert second.exit_code() == 2
    only_message(second.err, "run is in use by process", str(first.pid), "choose another output")
    first.send(signal.SIGKILL)
    assert first.exit_code() == -9
    assert f"process {first.pid}" in (workspace.folder / "run" / ".lock").read_text()
    (third,) = workspace.train("run", "train.steps=2")
    assert third.exit_code() == 0, third.err
    assert steps_logged(workspace.folder / "run") == [1, 2]
