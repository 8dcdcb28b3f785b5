"""Non-finite numbers: all ranks skip the update, several in a row roll the run back, and too many rollbacks end it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.faults.harness import Workspace, final_bytes, markers, only_message, steps_kept

SOON = ("nonfinite.check_every=2", "nonfinite.max_in_a_row=2", "nonfinite.max_rollbacks=1")


def rows(run: Path, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in found if row["kind"] == kind]


@pytest.mark.parametrize("processes", [1, 2])
def test_nonfinite_images_on_one_rank_skip_one_update_on_all_ranks(workspace: Workspace, processes: int) -> None:
    faults = f"nan-images@3#{processes - 1}"
    ranks = workspace.train("run", "log.every=2", faults=faults, processes=processes)
    assert [rank.exit_code() for rank in ranks] == [0] * processes, ranks[0].err
    assert "warning: skipped the update of D in step 3: a loss or gradient was not finite" in ranks[0].out
    (skipped,) = rows(workspace.folder / "run", "skipped")
    assert (skipped["step"], skipped["images_seen"], skipped["updates"], len(skipped["images"])) == (3, 36, "D", 12)
    assert all(None not in row.values() for row in rows(workspace.folder / "run", "train"))
    assert steps_kept(workspace.folder / "run") == [2, 4, 6]
    assert markers(workspace.folder / "run") == ["DONE"]


def test_skipped_step_is_logged_with_nulls_and_the_run_continues(workspace: Workspace) -> None:
    (only,) = workspace.train(faults="nan-images@3")
    assert only.exit_code() == 0, only.err
    third = rows(workspace.folder / "run", "train")[2]
    assert (third["step"], third["loss/D"], third["gradient/D"]) == (3, None, None)


@pytest.mark.parametrize("processes", [1, 2])
def test_nonfinite_weights_roll_back_and_the_data_stream_continues(workspace: Workspace, processes: int) -> None:
    ranks = workspace.train("run", *SOON, faults="nan-weights@3", processes=processes)
    assert [rank.exit_code() for rank in ranks] == [0] * processes, ranks[0].err
    assert "G.lift.weight is not finite, so no checkpoint is saved" in ranks[0].out
    assert "rollback 1 of 1, to the state of step 2" in ranks[0].out
    skipped = [row["step"] for row in rows(workspace.folder / "run", "skipped")]
    assert skipped == [4]  # in step 3 only the weights were not finite
    assert [row["step"] for row in rows(workspace.folder / "run", "train")] == [1, 2, 3, 4, 5, 6]
    manifest = json.loads((workspace.folder / "run/checkpoints/step-00000006/manifest.json").read_text())
    assert manifest["nonfinite"] == {"in_a_row": 0, "skipped": 1, "rollbacks": 1}


def test_run_killed_after_a_rollback_ends_with_the_same_bytes(workspace: Workspace) -> None:
    """With a learned class prior, which is rolled back and resumed as well."""
    prior = "prior: learned, prior_from: 0, prior_half_life_images: 50"
    learned = (f"latents={{noise: [{{dim: 5}}], categorical: [10], {prior}}}", "objective.information_trains=trunk")
    (undisturbed,) = workspace.train("undisturbed", *SOON, *learned, faults="nan-weights@3")
    assert undisturbed.exit_code() == 0, undisturbed.err
    (killed,) = workspace.train("run", *SOON, *learned, faults="nan-weights@3,kill@5")
    assert killed.exit_code() == -9
    (resumed,) = workspace.train("run", *SOON, *learned)
    assert resumed.exit_code() == 0, resumed.err
    assert final_bytes(workspace.folder / "run") == final_bytes(workspace.folder / "undisturbed")


def test_many_skipped_updates_in_a_row_roll_back(workspace: Workspace) -> None:
    faults = "nan-images@3,nan-images@4"
    (only,) = workspace.train("run", *SOON, faults=faults)
    assert only.exit_code() == 0, only.err
    assert (
        "2 consecutive steps up to step 4 had a non-finite loss or gradient; rollback 1 of 1, to the state of step 2"
        in only.out
    )
    assert steps_kept(workspace.folder / "run") == [2, 4, 6]


@pytest.mark.parametrize("processes", [1, 2])
def test_run_without_rollbacks_left_ends_with_a_post_mortem(workspace: Workspace, processes: int) -> None:
    faults = ",".join(f"nan-images@{step}" for step in (3, 4, 5, 6, 7, 8))
    ranks = workspace.train("run", *SOON, "train.steps=9", faults=faults, processes=processes)
    assert [rank.exit_code() for rank in ranks] == [3] * processes
    only_message(ranks[0].err, "diverged after 1 rollbacks", "up to step 6", "run/post_mortem.json")
    assert markers(workspace.folder / "run") == ["FAILED"]
    found = json.loads((workspace.folder / "run/post_mortem.json").read_text())
    assert found["gradient_norms"][-1] == {
        "step": 6,
        "gradient/D": None,
        "gradient/G": found["gradient_norms"][-1]["gradient/G"],
    }
    assert found["config"]["seed"] == 0
    assert found["last_rows"][-1]["step"] == 6
    assert found["nonfinite"]["skipped"] == 4
    assert steps_kept(workspace.folder / "run")[-1] == 4


def test_rollback_without_a_checkpoint_ends_the_run(workspace: Workspace) -> None:
    (only,) = workspace.train("run", *SOON, faults="nan-images@1,nan-images@2")
    assert only.exit_code() == 3
    only_message(only.err, "no checkpoint to return to")
    assert [row["step"] for row in rows(workspace.folder / "run", "skipped")] == [1, 2]


def test_collapse_warning_is_printed_once_and_counted_in_every_row(workspace: Workspace) -> None:
    always = ("collapse.after_images=24", "collapse.rows=2", "collapse.diversity=2")
    (first,) = workspace.train("run", *always, "train.steps=4")
    (second,) = workspace.train("run", *always)
    assert [first.exit_code(), second.exit_code()] == [0, 0], second.err
    (warning,) = [line for line in first.out.splitlines() if line.startswith("warning: G has lost variety")]
    assert "in the last 2 logged rows" in warning
    assert "warning" not in second.out  # the rows before it was resumed showed it already
    assert [row["collapse/warnings"] for row in rows(workspace.folder / "run", "train")] == [0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize("processes", [1, 2])
def test_collapse_warning_can_stop_the_run(workspace: Workspace, processes: int) -> None:
    stop = ("collapse={after_images: 0, rows: 2, diversity: 2, stop: true}",)
    ranks = workspace.train("run", *stop, processes=processes)
    assert [rank.exit_code() for rank in ranks] == [3] * processes
    only_message(ranks[0].err, "training collapsed at step 2 (collapse.stop = true)", "G has lost variety")
    assert markers(workspace.folder / "run") == ["FAILED"]
