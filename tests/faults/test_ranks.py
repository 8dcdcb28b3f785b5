"""Ranks that are slow, hang, or have other weights than the rest."""

from __future__ import annotations

from pathlib import Path

from tests.faults.harness import Workspace, final_bytes, markers, only_message, steps_kept


def test_slow_rank_is_waited_for(workspace: Workspace, undisturbed_of_two: Path) -> None:
    for rank in workspace.train(faults="slow@3#1,slow@4#1", processes=2):
        assert rank.exit_code() == 0, rank.err
    assert final_bytes(workspace.folder / "run") == final_bytes(undisturbed_of_two)


def test_rank_slower_than_the_timeout_ends_the_run(workspace: Workspace, undisturbed_of_two: Path) -> None:
    ranks = workspace.train("run", "processes.timeout=1", faults="hang@5#1", processes=2)
    assert [rank.exit_code() for rank in ranks] == [1, 1]
    assert "has made no progress for 1 s (processes.timeout)" in ranks[1].err
    assert markers(workspace.folder / "run") == ["FAILED"]
    for rank in workspace.train(processes=2):
        assert rank.exit_code() == 0, rank.err
    assert final_bytes(workspace.folder / "run") == final_bytes(undisturbed_of_two)


def test_rank_with_different_weights_is_named_and_not_saved(workspace: Workspace, undisturbed_of_two: Path) -> None:
    ranks = workspace.train(faults="drift@3#1", processes=2)
    assert [rank.exit_code() for rank in ranks] == [3, 3]
    only_message(ranks[0].err, "the ranks no longer have the same state: rank 1 of 2 differs from rank 0 in")
    assert steps_kept(workspace.folder / "run") == [2]
    assert markers(workspace.folder / "run") == ["FAILED"]
    for rank in workspace.train(processes=2):
        assert rank.exit_code() == 0, rank.err
    assert final_bytes(workspace.folder / "run") == final_bytes(undisturbed_of_two)


def test_search_for_neighbours_may_exceed_the_timeout(workspace: Workspace) -> None:
    clustering = "information_trains: trunk, lambda_clustering: 1, clustering_from: 0.1, clustering_in_full: 0.1"
    wanted = (
        f"objective={{{clustering}, neighbour_positives: 0.5}}",
        "processes.timeout=8",  # rank zero alone would take 12 s
    )
    for rank in workspace.train("run", *wanted, faults="slow-neighbours", processes=2):
        assert rank.exit_code() == 0, rank.err
    assert markers(workspace.folder / "run") == ["DONE"]
