"""Saving while training goes on: the same bytes, and the same care, as when it is waited for."""

from __future__ import annotations

from pathlib import Path

import pytest

from infogan_dist.checkpoints.store import newest
from tests.faults.harness import Bench, final_bytes, markers, said_once, steps_kept

BESIDE = "checkpoint.background=true"


@pytest.mark.parametrize("processes", [1, 2])
def test_background_save_has_the_same_bytes(bench: Bench, whole: Path, whole_of_two: Path, processes: int) -> None:
    for rank in bench.train("run", BESIDE, faults="slow-disk", processes=processes):
        assert rank.ended() == 0, rank.err
    undisturbed = whole if processes == 1 else whole_of_two
    assert steps_kept(bench.folder / "run") == [2, 4, 6]
    for step in (2, 4, 6):
        assert final_bytes(bench.folder / "run", step) == final_bytes(undisturbed, step)


def test_kill_during_a_background_save_keeps_the_previous_checkpoint(bench: Bench, whole: Path) -> None:
    (killed,) = bench.train("run", BESIDE, faults="slow-disk,kill@5")
    assert killed.ended() == -9
    found, complaints = newest(bench.folder / "run/checkpoints")
    assert found is not None
    assert (found.step, complaints) == (2, [])
    (resumed,) = bench.train("run", BESIDE)
    assert resumed.ended() == 0, resumed.err
    assert final_bytes(bench.folder / "run") == final_bytes(whole)
    assert steps_kept(bench.folder / "run") == [2, 4, 6]


def test_signal_waits_for_the_background_save(bench: Bench) -> None:
    (stopped,) = bench.train("run", BESIDE, faults="slow-disk,SIGTERM@5")
    assert stopped.ended() == 75, stopped.err
    assert steps_kept(bench.folder / "run") == [2, 4, 5]


@pytest.mark.parametrize("processes", [1, 2])
def test_failed_background_save_is_printed_once_by_every_rank(bench: Bench, processes: int) -> None:
    for rank in bench.train("run", "train.steps=2", processes=processes):
        assert rank.ended() == 0, rank.err
    faults = f"filesize={20 * 1024}"
    ranks = bench.train("run", BESIDE, "train.steps=40", "sample.every=0", faults=faults, processes=processes)
    for rank in ranks:
        assert rank.ended() == 1, rank.err
        said_once(rank.err, "run cannot be written to", "the checkpoint of step 2 is there")
    assert steps_kept(bench.folder / "run") == [2]
    assert markers(bench.folder / "run") == ["FAILED"]
