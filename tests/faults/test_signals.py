"""Signals: they save once and exit 75 wherever they arrive; a second one ends the process at once."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from infogan_dist.checkpoints.store import newest
from tests.faults.harness import TINY, Bench, final_bytes, markers, said_once, steps_kept, steps_logged


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_signal_saves_once_and_the_same_command_continues(bench: Bench, whole: Path, name: str) -> None:
    (stopped,) = bench.train(faults=f"{name}@3")
    assert stopped.ended() == 75
    first, last = stopped.said()
    assert f"{name}: stopping after this step" in first
    assert "stopped by a signal after step 3 and saved; the same command goes on" in last
    assert steps_kept(bench.folder / "run") == [2, 3]
    assert markers(bench.folder / "run") == ["PREEMPTED"]
    (resumed,) = bench.train()
    assert resumed.ended() == 0, resumed.err
    assert "lost" not in resumed.out
    assert final_bytes(bench.folder / "run") == final_bytes(whole)
    assert markers(bench.folder / "run") == ["DONE"]


def test_signal_during_a_save_does_not_interrupt_it(bench: Bench, whole: Path) -> None:
    (stopped,) = bench.train(faults="term-in-save@4")
    assert stopped.ended() == 75, stopped.err
    assert steps_kept(bench.folder / "run") == [2, 4, 5]
    (resumed,) = bench.train()
    assert resumed.ended() == 0, resumed.err
    assert final_bytes(bench.folder / "run") == final_bytes(whole)


def test_second_signal_during_a_save_keeps_earlier_checkpoints(bench: Bench, whole: Path) -> None:
    (stopped,) = bench.train(faults="terms-in-save@4")
    assert stopped.ended() == 75, stopped.err
    found, complaints = newest(bench.folder / "run/checkpoints")
    assert found is not None
    assert (found.step, complaints) == (2, [])
    (resumed,) = bench.train()
    assert resumed.ended() == 0, resumed.err
    assert steps_kept(bench.folder / "run") == [2, 4, 6]
    assert final_bytes(bench.folder / "run") == final_bytes(whole)


def test_signal_waits_for_pictures(bench: Bench) -> None:
    (stopped,) = bench.train("run", "sample.every=3", faults="term-in-sampling@3")
    assert stopped.ended() == 75, stopped.err
    assert (bench.folder / "run/samples/step-00000003.png").exists()
    assert steps_kept(bench.folder / "run") == [2, 3]


def test_signal_waits_for_an_evaluation(bench: Bench) -> None:
    (stopped,) = bench.train("run", "evaluate.every=3", faults="term-in-evaluation@3")
    assert stopped.ended() == 75, stopped.err
    assert '"kind": "evaluate"' in (bench.folder / "run/metrics.jsonl").read_text()
    assert steps_kept(bench.folder / "run") == [2, 3]


def test_second_signal_ends_the_process_at_once(bench: Bench, whole: Path) -> None:
    (stopped,) = bench.train(faults="term-twice@5")
    assert stopped.ended() == 75
    said_once(stopped.err, "a second signal stops at once")
    assert steps_kept(bench.folder / "run") == [2, 4]
    assert markers(bench.folder / "run") == []
    (resumed,) = bench.train()
    assert resumed.ended() == 0, resumed.err
    assert final_bytes(bench.folder / "run") == final_bytes(whole)


@pytest.mark.parametrize("fault", ["ctrl-c-while-drawing", "sigterm-while-drawing"])
def test_signal_during_sample_prints_no_traceback(bench: Bench, whole: Path, fault: str) -> None:
    (stopped,) = bench.start("sample", whole, "--out", "grid.png", faults=fault)
    assert stopped.ended() == 75
    assert stopped.err == "infogan-dist: stopped by a signal\n"
    assert not (bench.folder / "grid.png").exists()


def test_signal_in_the_last_step_ends_a_done_run(bench: Bench, whole: Path) -> None:
    (only,) = bench.train(faults="SIGTERM@6")
    assert only.ended() == 0, only.err
    assert markers(bench.folder / "run") == ["DONE"]
    assert final_bytes(bench.folder / "run") == final_bytes(whole)


def test_signal_to_one_rank_stops_all_ranks_at_the_same_step(bench: Bench) -> None:
    ranks = bench.train("run", "train.steps=12", "checkpoint.every=0", faults="SIGTERM@3#1", processes=2)
    assert [rank.ended() for rank in ranks] == [75, 75]
    said_once(ranks[0].err, "stopped by a signal after step 10")
    assert steps_kept(bench.folder / "run") == [10]  # the ranks ask each other at every tenth step
    assert markers(bench.folder / "run") == ["PREEMPTED"]


def test_second_run_in_a_folder_is_refused_and_a_dead_lock_is_ignored(bench: Bench) -> None:
    (first,) = bench.start("train", *TINY, "output=run", "train.steps=1000000", "checkpoint.every=0", "log.every=50")
    first.wait_for(bench.folder / "run" / "metrics.jsonl")
    (second,) = bench.train()
    assert second.ended() == 2
    said_once(second.err, "run is in use by process", str(first.pid), "choose another output")
    first.send(signal.SIGKILL)
    assert first.ended() == -9
    assert f"process {first.pid}" in (bench.folder / "run" / ".lock").read_text()
    (third,) = bench.train("run", "train.steps=2")
    assert third.ended() == 0, third.err
    assert steps_logged(bench.folder / "run") == [1, 2]
