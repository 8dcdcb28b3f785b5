"""Numbers that are not finite: the step is skipped everywhere, too many send the run back, and too often ends it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.faults.harness import Bench, final_bytes, markers, said_once, steps_kept

SOON = ("nonfinite.check_every=2", "nonfinite.max_in_a_row=2", "nonfinite.max_rollbacks=1")


def rows(run: Path, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in found if row["kind"] == kind]


@pytest.mark.parametrize("processes", [1, 2])
def test_nonfinite_images_on_one_rank_skip_one_update_on_all_ranks(bench: Bench, processes: int) -> None:
    faults = f"nan-images@3#{processes - 1}"
    ranks = bench.train("run", "log.every=2", faults=faults, processes=processes)
    assert [rank.ended() for rank in ranks] == [0] * processes, ranks[0].err
    assert "warning: skipped the update of D in step 3: a loss or gradient was not finite" in ranks[0].out
    (skipped,) = rows(bench.folder / "run", "skipped")
    assert (skipped["step"], skipped["images_seen"], skipped["updates"], len(skipped["images"])) == (3, 36, "D", 12)
    assert all(None not in row.values() for row in rows(bench.folder / "run", "train"))
    assert steps_kept(bench.folder / "run") == [2, 4, 6]
    assert markers(bench.folder / "run") == ["DONE"]


def test_skipped_step_is_logged_with_nulls_and_the_run_continues(bench: Bench) -> None:
    (only,) = bench.train(faults="nan-images@3")
    assert only.ended() == 0, only.err
    third = rows(bench.folder / "run", "train")[2]
    assert (third["step"], third["loss/D"], third["gradient/D"]) == (3, None, None)


@pytest.mark.parametrize("processes", [1, 2])
def test_nonfinite_weights_roll_back_and_the_data_stream_continues(bench: Bench, processes: int) -> None:
    ranks = bench.train("run", *SOON, faults="nan-weights@3", processes=processes)
    assert [rank.ended() for rank in ranks] == [0] * processes, ranks[0].err
    assert "G.lift.weight is not finite, so no checkpoint is saved" in ranks[0].out
    assert "rollback 1 of 1, to the state of step 2" in ranks[0].out
    assert [row["step"] for row in rows(bench.folder / "run", "skipped")] == [
        4
    ]  # in step 3 only the weights were broken
    assert [row["step"] for row in rows(bench.folder / "run", "train")] == [1, 2, 3, 4, 5, 6]
    manifest = json.loads((bench.folder / "run/checkpoints/step-00000006/manifest.json").read_text())
    assert manifest["nonfinite"] == {"in_a_row": 0, "skipped": 1, "rollbacks": 1}


def test_run_killed_after_a_rollback_ends_with_the_same_bytes(bench: Bench) -> None:
    (whole,) = bench.train("whole", *SOON, faults="nan-weights@3")
    assert whole.ended() == 0, whole.err
    (killed,) = bench.train("run", *SOON, faults="nan-weights@3,kill@5")
    assert killed.ended() == -9
    (resumed,) = bench.train("run", *SOON)
    assert resumed.ended() == 0, resumed.err
    assert final_bytes(bench.folder / "run") == final_bytes(bench.folder / "whole")


def test_many_skipped_updates_in_a_row_roll_back(bench: Bench) -> None:
    faults = "nan-images@3,nan-images@4"
    (only,) = bench.train("run", *SOON, faults=faults)
    assert only.ended() == 0, only.err
    assert (
        "2 consecutive steps up to step 4 had a non-finite loss or gradient; rollback 1 of 1, to the state of step 2"
        in only.out
    )
    assert steps_kept(bench.folder / "run") == [2, 4, 6]


@pytest.mark.parametrize("processes", [1, 2])
def test_run_without_rollbacks_left_ends_with_a_post_mortem(bench: Bench, processes: int) -> None:
    faults = ",".join(f"nan-images@{step}" for step in (3, 4, 5, 6, 7, 8))
    ranks = bench.train("run", *SOON, "train.steps=9", faults=faults, processes=processes)
    assert [rank.ended() for rank in ranks] == [3] * processes
    said_once(ranks[0].err, "diverged after 1 rollbacks", "up to step 6", "run/post_mortem.json")
    assert markers(bench.folder / "run") == ["FAILED"]
    found = json.loads((bench.folder / "run/post_mortem.json").read_text())
    assert found["gradient_norms"][-1] == {
        "step": 6,
        "gradient/D": None,
        "gradient/G": found["gradient_norms"][-1]["gradient/G"],
    }
    assert found["config"]["seed"] == 0
    assert found["last_rows"][-1]["step"] == 6
    assert found["nonfinite"]["skipped"] == 4
    assert steps_kept(bench.folder / "run")[-1] == 4


def test_rollback_without_a_checkpoint_ends_the_run(bench: Bench) -> None:
    (only,) = bench.train("run", *SOON, faults="nan-images@1,nan-images@2")
    assert only.ended() == 3
    said_once(only.err, "no checkpoint to return to")
    assert [row["step"] for row in rows(bench.folder / "run", "skipped")] == [1, 2]


def test_collapse_warning_is_printed_once_and_counted_in_every_row(bench: Bench) -> None:
    always = ("collapse.after_images=24", "collapse.rows=2", "collapse.diversity=2")
    (first,) = bench.train("run", *always, "train.steps=4")
    (second,) = bench.train("run", *always)
    assert [first.ended(), second.ended()] == [0, 0], second.err
    (told,) = [line for line in first.out.splitlines() if line.startswith("warning: G has lost variety")]
    assert "in the last 2 logged rows" in told
    assert "warning" not in second.out  # the rows before it was resumed showed it already
    assert [row["collapse/warnings"] for row in rows(bench.folder / "run", "train")] == [0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize("processes", [1, 2])
def test_collapse_warning_can_stop_the_run(bench: Bench, processes: int) -> None:
    stop = ("collapse={after_images: 0, rows: 2, diversity: 2, stop: true}",)
    ranks = bench.train("run", *stop, processes=processes)
    assert [rank.ended() for rank in ranks] == [3] * processes
    said_once(ranks[0].err, "training collapsed at step 2 (collapse.stop = true)", "G has lost variety")
    assert markers(bench.folder / "run") == ["FAILED"]
