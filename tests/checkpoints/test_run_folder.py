from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from infogan_dist.checkpoints.resume import check_writable, decide_resume, who_writes_in
from infogan_dist.checkpoints.run_folder import RunFolder, read_metrics
from infogan_dist.checkpoints.store import newest
from infogan_dist.config.reading import load_config
from infogan_dist.config.schema import Config
from infogan_dist.errors import CannotWrite, NoUsableCheckpoint, StoppedBySignal, UserError
from tests.conftest import tiny

CPU = torch.device("cpu")


def with_checkpoints(config: Config, *steps: int, resumed_from: Sequence[Any] = (), value: float = 1.0) -> RunFolder:
    before, _ = newest(Path(config.output) / "checkpoints")
    folder = RunFolder(config, before)
    with folder:
        for step in steps:
            folder.record("train", step, step * 12, {"loss/D": 1.0})
            facts = {"step": step, "config": config.model_dump(mode="json"), "resumed_from": list(resumed_from)}
            folder.save_checkpoint({"G": {"w": torch.full((step,), value)}}, facts)
    return folder


def test_empty_folder_starts_a_new_run(tmp_path: Path) -> None:
    decided = decide_resume(tiny(tmp_path / "run", "train.precision=auto"), "auto", CPU)
    assert decided.checkpoint is None
    assert not decided.finished
    assert decided.config.train.precision in ("fp32", "bf16")
    assert not (tmp_path / "run").exists()


def test_same_command_continues_where_the_run_stopped(tmp_path: Path) -> None:
    config = tiny(tmp_path / "run")
    with_checkpoints(config, 2, 4)
    decided = decide_resume(config, "auto", CPU)
    assert decided.checkpoint is not None
    assert decided.checkpoint.step == 4
    assert not decided.finished


def test_checkpoints_without_a_config_file_do_not_start_a_new_run(tmp_path: Path) -> None:
    folder = with_checkpoints(tiny(tmp_path / "run"), 2)
    (folder.path / "config.yaml").unlink()
    decided = decide_resume(tiny(tmp_path / "run"), "auto", CPU)
    assert decided.checkpoint is not None
    assert decided.checkpoint.step == 2
    with pytest.raises(UserError, match="seed = 0, not 4"):
        decide_resume(tiny(tmp_path / "run", "seed=4"), "auto", CPU)


def test_done_run_is_finished_and_more_steps_continue_it(tmp_path: Path) -> None:
    with_checkpoints(tiny(tmp_path / "run"), 6)
    assert decide_resume(tiny(tmp_path / "run"), "auto", CPU).finished
    assert not decide_resume(tiny(tmp_path / "run", "train.steps=9"), "auto", CPU).finished


def test_changed_number_is_refused_with_both_values(tmp_path: Path) -> None:
    with_checkpoints(tiny(tmp_path / "run"), 2)
    with pytest.raises(UserError, match=r"seed = 0, not 4"):
        decide_resume(tiny(tmp_path / "run", "seed=4"), "auto", CPU)
    with pytest.raises(UserError, match="never"):
        decide_resume(tiny(tmp_path / "run"), "never", CPU)


def test_auto_precision_resolves_to_the_recorded_one(tmp_path: Path) -> None:
    with_checkpoints(tiny(tmp_path / "run", "train.precision=fp64"), 2)
    assert decide_resume(tiny(tmp_path / "run", "train.precision=auto"), "auto", CPU).config.train.precision == "fp64"
    with pytest.raises(UserError, match=r'train\.precision = "fp64", not "fp32"'):
        decide_resume(tiny(tmp_path / "run", "train.precision=fp32"), "auto", CPU)


def test_damaged_checkpoints_are_named_and_never_start_a_new_run(tmp_path: Path) -> None:
    folder = with_checkpoints(tiny(tmp_path / "run"), 2, 4)
    (folder.checkpoints / "step-00000004" / "G.safetensors").unlink()
    decided = decide_resume(tiny(tmp_path / "run"), "auto", CPU)
    assert decided.checkpoint is not None
    assert decided.checkpoint.step == 2
    assert "G.safetensors is missing" in decided.notices[0]
    (folder.checkpoints / "step-00000002" / "G.safetensors").unlink()
    with pytest.raises(NoUsableCheckpoint):
        decide_resume(tiny(tmp_path / "run"), "auto", CPU)


def test_checkpoint_may_start_a_new_run_but_not_replace_an_old_one(tmp_path: Path) -> None:
    folder = with_checkpoints(tiny(tmp_path / "run"), 2, 4)
    older = str(folder.checkpoints / "step-00000002")
    fork = decide_resume(tiny(tmp_path / "fork"), older, CPU)
    assert fork.checkpoint is not None
    assert fork.checkpoint.step == 2
    with pytest.raises(UserError, match=r"newer checkpoint \(step 4\)"):
        decide_resume(tiny(tmp_path / "run"), older, CPU)
    with pytest.raises(UserError, match="was trained with seed = 0, not 1"):
        decide_resume(tiny(tmp_path / "fork", "seed=1"), older, CPU)


def test_continuation_of_a_checkpoint_resumes_and_another_run_is_refused(tmp_path: Path) -> None:
    origin = str(with_checkpoints(tiny(tmp_path / "run"), 2, 4).checkpoints / "step-00000002")
    fork = tiny(tmp_path / "fork")
    started = decide_resume(fork, origin, CPU)
    with_checkpoints(fork, 3, resumed_from=started.resumed_from)
    for command in (origin, str(tmp_path / "run"), "auto"):  # a run folder selects its newest checkpoint
        again = decide_resume(fork, command, CPU)
        assert again.checkpoint is not None
        assert again.checkpoint.path == tmp_path / "fork/checkpoints/step-00000003"
        assert again.resumed_from == started.resumed_from
    with pytest.raises(UserError, match="--resume is never"):
        decide_resume(fork, "never", CPU)
    for number, step, words in ((0, 2, "a checkpoint of another run"), (1, 5, "a newer checkpoint")):
        other = tiny(tmp_path / f"other-{number}")
        with_checkpoints(other, step, value=2.0)
        with pytest.raises(UserError, match=rf"holds {words} \(step {step}\).*choose another output") as refusal:
            decide_resume(other, origin, CPU)
        assert "\n" not in str(refusal.value)


def test_chain_of_forks_and_fork_of_the_own_checkpoint_resume(tmp_path: Path) -> None:
    run = tiny(tmp_path / "run")
    first = str(with_checkpoints(run, 2).checkpoints / "step-00000002")
    with_checkpoints(
        run, 4, resumed_from=decide_resume(run, first, CPU).resumed_from
    )  # killed after its next checkpoint
    again = decide_resume(run, first, CPU)
    assert again.checkpoint is not None
    assert again.checkpoint.step == 4
    fork = tiny(tmp_path / "fork")
    second = str(tmp_path / "run/checkpoints/step-00000004")
    with_checkpoints(fork, 6, resumed_from=decide_resume(fork, second, CPU).resumed_from)
    for origin in (first, second):
        forked = decide_resume(fork, origin, CPU)
        assert forked.checkpoint is not None
        assert forked.checkpoint.step == 6
    again = decide_resume(run, str(tmp_path / "run"), CPU)
    assert again.checkpoint is not None
    assert again.resumed_from == tuple(again.checkpoint.resumed_from), "its own folder is no other origin"


def test_missing_origin_is_named_with_the_remedy(tmp_path: Path) -> None:
    origin = with_checkpoints(tiny(tmp_path / "run"), 2).checkpoints / "step-00000002"
    fork = tiny(tmp_path / "fork")
    with_checkpoints(fork, 3, resumed_from=decide_resume(fork, str(origin), CPU).resumed_from)
    shutil.rmtree(origin)
    with pytest.raises(NoUsableCheckpoint, match=r"step-00000002.*missing.*continues its step 3 without --resume"):
        decide_resume(fork, str(origin), CPU)
    with pytest.raises(UserError, match=r"there is no .*elsewhere.*continues its step 3 without --resume"):
        decide_resume(fork, str(tmp_path / "elsewhere"), CPU)


def test_steps_lost_by_a_fork_are_listed(tmp_path: Path) -> None:
    origin = str(with_checkpoints(tiny(tmp_path / "run"), 2).checkpoints / "step-00000002")
    fork = tiny(tmp_path / "fork")
    with RunFolder(fork, decide_resume(fork, origin, CPU).checkpoint) as folder:
        folder.record("train", 5, 60, {})
    (lost,) = decide_resume(fork, origin, CPU).notices
    assert "from step 3: the steps up to 5" in lost


def test_metrics_are_truncated_to_the_checkpoint_and_a_torn_line_is_dropped(tmp_path: Path) -> None:
    config = tiny(tmp_path / "run")
    folder = with_checkpoints(config, 2, 4, 6)
    with (folder.path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')
    (folder.checkpoints / "step-00000006" / "G.safetensors").unlink()
    with RunFolder(config, decide_resume(config, "auto", CPU).checkpoint) as again:
        assert [row["step"] for row in again.rows()] == [2, 4]
        again.record("train", 5, 60, {"loss/D": float("nan")})
    last = (folder.path / "metrics.jsonl").read_text().splitlines()[-1]
    assert json.loads(last) == {"kind": "train", "step": 5, "images_seen": 60, "loss/D": None}


def test_old_checkpoints_are_pruned(tmp_path: Path) -> None:
    folder = with_checkpoints(tiny(tmp_path / "run", "checkpoint.keep=2"), 1, 2, 3)
    assert sorted(path.name for path in folder.checkpoints.iterdir()) == ["step-00000002", "step-00000003"]


def test_second_writer_is_refused_by_name_and_a_dead_one_is_ignored(tmp_path: Path) -> None:
    config = tiny(tmp_path / "run")
    with RunFolder(config, None), pytest.raises(UserError, match=r"in use by process \d+ on "):
        RunFolder(config, None)
    (tmp_path / "run" / ".lock").write_text("process 4 on elsewhere\n")
    with RunFolder(config, None):
        assert who_writes_in(tmp_path / "run") == f"process {os.getpid()} on {socket.gethostname()}"


def test_progress_of_another_process_is_not_overwritten(tmp_path: Path) -> None:
    config = tiny(tmp_path / "run")
    folder = with_checkpoints(config, 2)
    decided = decide_resume(config, "auto", CPU)
    folder.save_checkpoint({"G": {"w": torch.ones(4)}}, {"step": 4}, wait=True)
    with pytest.raises(UserError, match="step-00000004 has appeared since"):
        RunFolder(config, decided.checkpoint)


def test_failed_write_names_the_newest_checkpoint(tmp_path: Path) -> None:
    folder = with_checkpoints(tiny(tmp_path / "run"), 2)
    with pytest.raises(CannotWrite, match=r"No space.*checkpoint of step 2 is there"), folder.writing():
        raise OSError(28, "No space left on device")


def test_lost_steps_are_reported(tmp_path: Path) -> None:
    folder = with_checkpoints(tiny(tmp_path / "run"), 2, 4)
    assert decide_resume(tiny(tmp_path / "run"), "auto", CPU).notices == ()
    (folder.checkpoints / "step-00000004" / "G.safetensors").unlink()
    _, lost = decide_resume(tiny(tmp_path / "run"), "auto", CPU).notices
    assert "from step 3: the steps up to 4" in lost
    shutil.rmtree(folder.checkpoints / "step-00000004")  # killed before its save: only the metrics have these steps
    (lost,) = decide_resume(tiny(tmp_path / "run"), "auto", CPU).notices
    assert "from step 3: the steps up to 4" in lost


def test_invalid_metrics_rows_are_dropped_and_a_folder_in_their_place_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    row = '{"kind": "train", "step": %s, "images_seen": 12}\n'
    no_rows = b"\0\0\0\n\xff{\n[1]\n" + (row % '"2"').encode() + b"[" * 100_000 + b"\n"
    no_rows += b'{"step": 3, "images_seen": 12}\n{"kind": "train", "step": 3}\n{"kind": "train", "images_seen": 12}\n'
    no_rows += b'{"kind": "train", "step": 3, "images_seen": 12, "loss/D": "high"}\n'
    path.write_bytes((row % 1).encode() + no_rows + (row % 2).encode() + b'{"st')
    assert [row["step"] for row in read_metrics(path)] == [1, 2]
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match=r"metrics\.jsonl is not a file"):
        read_metrics(path)


@pytest.mark.parametrize(
    ("error", "marker"), [(None, "DONE"), (StoppedBySignal("stop"), "PREEMPTED"), (RuntimeError("broken"), "FAILED")]
)
def test_marker_names_how_the_process_ended(tmp_path: Path, error: Exception | None, marker: str) -> None:
    config = tiny(tmp_path / "run")
    folder = RunFolder(config, None)
    try:
        with folder:
            if error is not None:
                raise error
    except (StoppedBySignal, RuntimeError):
        pass
    markers = [name for name in ("DONE", "PREEMPTED", "FAILED") if (folder.path / name).exists()]
    assert markers == [marker]
    assert (str(error) if error else "") in (folder.path / marker).read_text()
    with RunFolder(config, None):
        assert not (folder.path / marker).exists()
    assert load_config(folder.path / "config.yaml") == config


def test_unwritable_output_is_detected_without_creating_it(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file", tmp_path / "file" / "run", Path("/proc/run")):
        with pytest.raises(UserError, match="choose another output"):
            check_writable(output)
