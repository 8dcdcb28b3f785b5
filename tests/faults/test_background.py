"""Background saves are as safe as foreground ones and have the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from infogan_dist.checkpoints.store import newest
from tests.faults.harness import Workspace, final_bytes, markers, only_message, steps_kept

BACKGROUND = "checkpoint.background=true"


@pytest.mark.parametrize("processes", [1, 2])
def test_background_save_has_the_same_bytes(
    workspace: Workspace, undisturbed: Path, undisturbed_of_two: Path, processes: int
) -> None:
    for rank in workspace.train("run", BACKGROUND, faults="slow-disk", processes=processes):
        assert rank.exit_code() == 0, rank.err
    expected = undisturbed if processes == 1 else undisturbed_of_two
    assert steps_kept(workspace.folder / "run") == [2, 4, 6]
    for step in (2, 4, 6):
        assert final_bytes(workspace.folder / "run", step) == final_bytes(expected, step)


def test_kill_during_a_background_save_keeps_the_previous_checkpoint(workspace: Workspace, undisturbed: Path) -> None:
    (killed,) = workspace.train("run", BACKGROUND, faults="slow-disk,kill@5")
    assert killed.exit_code() == -9
    found, complaints = newest(workspace.folder / "run/checkpoints")
    assert found is not None
    assert (found.step, complaints) == (2, [])
    (resumed,) = workspace.train("run", BACKGROUND)
    assert resumed.exit_code() == 0, resumed.err
    assert final_bytes(workspace.folder / "run") == final_bytes(undisturbed)
    assert steps_kept(workspace.folder / "run") == [2, 4, 6]


def test_signal_waits_for_the_background_save(workspace: Workspace) -> None:
    (stopped,) = workspace.train("run", BACKGROUND, faults="slow-disk,SIGTERM@5")
    assert stopped.exit_code() == 75, stopped.err
    assert steps_kept(workspace.folder / "run") == [2, 4, 5]


@pytest.mark.parametrize("processes", [1, 2])
def test_failed_background_save_is_printed_once_by_every_rank(workspace: Workspace, processes: int) -> None:
    for rank in workspace.train("run", "train.steps=2", processes=processes):
        assert rank.exit_code() == 0, rank.err
    faults = f"filesize={20 * 1024}"
    ranks = workspace.train("run", BACKGROUND, "train.steps=40", "sample.every=0", faults=faults, processes=processes)
    for rank in ranks:
        assert rank.exit_code() == 1, rank.err
        only_message(rank.err, "run cannot be written to", "the checkpoint of step 2 is there")
    assert steps_kept(workspace.folder / "run") == [2]
    assert markers(workspace.folder / "run") == ["FAILED"]
