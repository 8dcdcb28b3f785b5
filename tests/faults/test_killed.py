"""Killed processes: within a step, at every file event of a run, one rank of several."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from infogan_dist.checkpoints.store import newest
from tests.faults.harness import (
    TINY,
    Workspace,
    final_bytes,
    markers,
    only_message,
    run_torchrun,
    steps_kept,
    steps_logged,
    torchrun,
)


def test_run_killed_within_a_step_ends_with_the_bytes_of_an_undisturbed_run(
    workspace: Workspace, undisturbed: Path
) -> None:
    run = workspace.folder / "run"
    for step, kept in ((4, [2]), (5, [2, 4])):
        (killed,) = workspace.train(faults=f"kill@{step}")
        assert killed.exit_code() == -9
        assert steps_kept(run) == kept
        assert markers(run) == []
    (last,) = workspace.train()
    assert last.exit_code() == 0, last.err
    assert "continuing after step 4" in last.out
    assert final_bytes(run) == final_bytes(undisturbed)
    assert steps_logged(run) == [1, 2, 3, 4, 5, 6]
    assert markers(run) == ["DONE"]


def test_killed_rank_ends_the_others_and_the_same_command_continues(
    workspace: Workspace, undisturbed_of_two: Path
) -> None:
    run = workspace.folder / "run"
    for killed, left in ((1, 0), (0, 1)):
        ranks = workspace.train(faults=f"kill@5#{killed}", processes=2)
        assert [ranks[killed].exit_code(), ranks[left].exit_code()] == [-9, 1]
        only_message(ranks[left].err, f"rank {left} of 2", "lost another rank in")
        assert steps_kept(run) == [2, 4]
        assert markers(run) == (["FAILED"] if left == 0 else [])
    for rank in workspace.train(processes=2):
        assert rank.exit_code() == 0, rank.err
    assert final_bytes(run) == final_bytes(undisturbed_of_two)
    assert (run / "metrics.jsonl").read_bytes() == (undisturbed_of_two / "metrics.jsonl").read_bytes()


def test_torchrun_restarts_a_killed_rank_and_the_run_recovers(tmp_path: Path, undisturbed_of_two: Path) -> None:
    faults = "begun:once:kill@5#1"
    result = run_torchrun(tmp_path, torchrun("train", *TINY, "output=run", faults=faults, restarts=2))
    assert result.returncode == 0, result.stderr
    assert "continuing after step 4" in result.stdout
    assert final_bytes(tmp_path / "run") == final_bytes(undisturbed_of_two)
    assert markers(tmp_path / "run") == ["DONE"]


ONE_SAVE = (
    "train.steps=2",
    "checkpoint.keep=1",
    "checkpoint.every=0",
    "log.every=0",
)  # continues after step 1, and prunes
PARTS = 3  # of the sweep, so that no test takes longer than half a minute


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A run of two steps in `run`, a copy of it after its first step in `one`, and the file events of its second in `log`."""
    workspace = Workspace(tmp_path_factory.mktemp("begun"))
    (first,) = workspace.train("run", *ONE_SAVE, "train.steps=1")
    assert first.exit_code() == 0, first.err
    shutil.copytree(workspace.folder / "run", workspace.folder / "one")
    (second,) = workspace.train(
        "run", *ONE_SAVE, faults=f"no-pictures,events={workspace.folder / 'run'}:{workspace.folder / 'log'}"
    )
    assert second.exit_code() == 0, second.err
    return workspace


@pytest.mark.parametrize("part", range(PARTS))
def test_kill_at_any_file_event_loses_no_valid_checkpoint(workspace: Workspace, begun: Workspace, part: int) -> None:
    events = (begun.folder / "log").read_text().splitlines()  # number, operation, path, whether it can be torn
    run, undisturbed = workspace.folder / "run", final_bytes(begun.folder / "run", 2)
    assert len(events) > 20  # all writes but pictures
    for number, event in list(enumerate(events, 1))[part::PARTS]:
        _, _, name, torn = event.split("\t")
        for mode in ("before", "torn") if torn == "1" and name != run.name else ("before",):
            shutil.rmtree(run, ignore_errors=True)
            shutil.copytree(begun.folder / "one", run)
            (killed,) = workspace.train("run", *ONE_SAVE, faults=f"no-pictures,crash={run}:{number}:{mode}")
            assert killed.exit_code() == 137, (event, killed.err)
            found, complaints = newest(run / "checkpoints")
            assert found is not None
            assert complaints == []
            (resumed,) = workspace.train("run", *ONE_SAVE, faults="no-pictures")
            assert resumed.exit_code() == 0, (event, mode, resumed.err)
            assert steps_kept(run)[-1] == 2, (event, mode)
            assert final_bytes(run, 2) == undisturbed, (event, mode)
            if (name, mode) != ("metrics.jsonl", "torn"):  # an append cannot lose half of the file
                assert steps_logged(run) == [1, 2]
