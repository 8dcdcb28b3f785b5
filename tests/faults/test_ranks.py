"""Ranks that fall behind or apart."""

from __future__ import annotations

from pathlib import Path

from tests.faults.harness import Bench, final_bytes, markers, said_once, steps_kept


def test_slow_rank_is_waited_for(bench: Bench, whole_of_two: Path) -> None:
    for rank in bench.train(faults="slow@3#1,slow@4#1", processes=2):
        assert rank.ended() == 0, rank.err
    assert final_bytes(bench.folder / "run") == final_bytes(whole_of_two)


def test_rank_slower_than_the_timeout_ends_the_run(bench: Bench, whole_of_two: Path) -> None:
    ranks = bench.train("run", "processes.timeout=1", faults="hang@5#1", processes=2)
    assert [rank.ended() for rank in ranks] == [1, 1]
    assert "has made no progress for 1 s (processes.timeout)" in ranks[1].err
    assert markers(bench.folder / "run") == ["FAILED"]
    for rank in bench.train(processes=2):
        assert rank.ended() == 0, rank.err
    assert final_bytes(bench.folder / "run") == final_bytes(whole_of_two)


def test_rank_with_different_weights_is_named_and_not_saved(bench: Bench, whole_of_two: Path) -> None:
    ranks = bench.train(faults="drift@3#1", processes=2)
    assert [rank.ended() for rank in ranks] == [3, 3]
    said_once(ranks[0].err, "the ranks no longer have the same state: rank 1 of 2 differs from rank 0 in")
    assert steps_kept(bench.folder / "run") == [2]
    assert markers(bench.folder / "run") == ["FAILED"]
    for rank in bench.train(processes=2):
        assert rank.ended() == 0, rank.err
    assert final_bytes(bench.folder / "run") == final_bytes(whole_of_two)


def test_search_for_neighbours_may_exceed_the_timeout(bench: Bench) -> None:
    clustering = "information_trains: trunk, lambda_clustering: 1, clustering_from: 0.1, clustering_in_full: 0.1"
    wanted = (
        f"objective={{{clustering}, neighbour_positives: 0.5}}",
        "processes.timeout=8",
    )  # rank zero alone would take 12 s
    for rank in bench.train("run", *wanted, faults="slow-neighbours", processes=2):
        assert rank.ended() == 0, rank.err
    assert markers(bench.folder / "run") == ["DONE"]
