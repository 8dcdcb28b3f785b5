from __future__ import annotations

import fcntl
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from infogan_dist.checkpoints.run_folder import read_metrics
from infogan_dist.checkpoints.store import folders, step_of, verify
from infogan_dist.config.reading import load_config
from infogan_dist.diagnostics import debug as debugging
from infogan_dist.diagnostics.debug import debug, debug_config, has_deterministic_kernels
from infogan_dist.distributed.launcher import Launch
from infogan_dist.errors import InfoganError, StoppedBySignal, UserError
from infogan_dist.sampling.curves import write_curves
from infogan_dist.training import step, trainer
from infogan_dist.training.loop import train
from infogan_dist.training.step import MicroBatch
from infogan_dist.training.train_state import TrainState
from tests.conftest import ONE_PROCESS, Command, fails_after, refused, tiny


def final_bytes(run: Path, step: int = 6) -> dict[str, bytes]:
    checkpoint = verify(run / "checkpoints" / f"step-{step:08d}")
    return {name: (checkpoint.path / name).read_bytes() for name in checkpoint.manifest["files"]}


def test_run_folder_has_the_documented_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    train(tiny(run, "sample.every=3", "latents={noise: [{dim: 5}], categorical: [10], continuous: 1}"), ONE_PROCESS)
    assert {path.name for path in run.iterdir()} >= {"config.yaml", "metrics.jsonl", "curves.png", "samples", "DONE"}
    assert {path.name for path in (run / "samples").iterdir()} == {
        f"step-0000000{step}{suffix}.png" for step in (3, 6) for suffix in ("", "-continuous_0")
    }
    width, height = Image.open(run / "samples/step-00000006.png").size
    assert 2 * 10 * 28 < height < width  # enlarged, with the classes beside the rows
    assert set(final_bytes(run)) == {
        f"{name}.safetensors" for name in ("G", "G_ema", "FE", "D", "Q", "optimizer_D", "optimizer_G")
    }
    rows = read_metrics(run / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[-1]["images_seen"] == 72
    assert set(rows[0]) == {
        *("kind", "step", "images_seen", "loss/D", "loss/G", "loss/info", "mi/categorical_0", "mi/continuous_0"),
        *("score/real", "score/fake_before_G", "score/fake_after_G", "gradient/D", "gradient/G", "collapse/warnings"),
        *("health/D_accuracy", "health/score_gap", "health/diversity", "health/usage_entropy/categorical_0"),
        *(f"usage/categorical_0/{number}" for number in range(10)),
    }
    assert load_config(run / "config.yaml").train.precision == "fp64"
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("samples/step-00000006.png", "curves.png", "checkpoints/step-00000006"))


def test_evaluation_in_training_logs_a_row_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tiny(tmp_path / "plain"), ONE_PROCESS)
    assert "code error" not in capsys.readouterr().out
    train(tiny(tmp_path / "evaluated", "evaluate.every=4"), ONE_PROCESS)
    rows = [row for row in read_metrics(tmp_path / "evaluated/metrics.jsonl") if row["kind"] == "evaluate"]
    assert [row["step"] for row in rows] == [4, 6]
    assert 0 < rows[-1]["code_error"] < 1
    assert f"code error: {rows[-1]['code_error']:.2%} of the test images, after step 6" in capsys.readouterr().out
    assert final_bytes(tmp_path / "plain") == final_bytes(tmp_path / "evaluated")


LEARNED = "latents={noise: [{dim: 5}], categorical: [10], prior: learned, prior_from: 0, prior_half_life_images: 50}"


@pytest.mark.parametrize(
    "learns",
    [("objective.information_trains=heads",), ("objective.information_trains=trunk", LEARNED)],
    ids=["heads", "trunk and class prior"],
)
def test_interrupted_run_ends_with_the_bytes_of_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, learns: tuple[str, ...]
) -> None:
    train(tiny(tmp_path / "whole", *learns), ONE_PROCESS)
    real_step = trainer.train_step
    for stop_after in (3, 5):  # one step after a checkpoint: that step is trained again

        def broken(
            state: TrainState,
            batch: list[MicroBatch],
            left: list[int] = [stop_after],  # noqa: B006
        ) -> dict[str, torch.Tensor]:
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
            return real_step(state, batch)

        monkeypatch.setattr(trainer, "train_step", broken)
        with pytest.raises(KeyboardInterrupt):
            train(
                tiny(tmp_path / "broken", *learns, "train.steps=9" if stop_after == 5 else "train.steps=6"), ONE_PROCESS
            )
        assert (tmp_path / "broken" / "FAILED").exists()
    monkeypatch.undo()
    train(tiny(tmp_path / "broken", *learns), ONE_PROCESS)
    assert final_bytes(tmp_path / "broken") == final_bytes(tmp_path / "whole")
    assert (tmp_path / "broken/metrics.jsonl").read_bytes() == (tmp_path / "whole/metrics.jsonl").read_bytes()


def test_stop_request_saves_once_and_the_same_command_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tiny(tmp_path / "whole"), ONE_PROCESS)
    real_step = trainer.train_step
    calls = []

    def signalled(state: TrainState, batch: list[MicroBatch]) -> dict[str, torch.Tensor]:
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return real_step(state, batch)

    monkeypatch.setattr(trainer, "train_step", signalled)
    with pytest.raises(StoppedBySignal, match="after step 3"):
        train(tiny(tmp_path / "stopped"), ONE_PROCESS)
    assert (tmp_path / "stopped" / "PREEMPTED").exists()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    train(tiny(tmp_path / "stopped"), ONE_PROCESS)
    assert final_bytes(tmp_path / "stopped") == final_bytes(tmp_path / "whole")


def test_logging_and_sampling_do_not_change_training(tmp_path: Path) -> None:
    train(tiny(tmp_path / "watched", "log.every=1", "sample.every=1", "checkpoint.every=1"), ONE_PROCESS)
    train(tiny(tmp_path / "alone", "log.every=0", "sample.every=0", "checkpoint.every=0"), ONE_PROCESS)
    assert final_bytes(tmp_path / "watched") == final_bytes(tmp_path / "alone")
    assert [row["step"] for row in read_metrics(tmp_path / "alone" / "metrics.jsonl")] == [6]


def test_done_run_is_not_changed_and_more_steps_continue_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    train(tiny(run, "train.steps=4"), ONE_PROCESS)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    train(tiny(run, "train.steps=4"), ONE_PROCESS)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    assert "is done" in capsys.readouterr().out
    train(tiny(run), ONE_PROCESS)
    train(tiny(tmp_path / "whole"), ONE_PROCESS)
    assert final_bytes(run) == final_bytes(tmp_path / "whole")


def test_fork_starts_from_a_checkpoint_of_another_run(tmp_path: Path) -> None:
    train(tiny(tmp_path / "run", "checkpoint.keep=9"), ONE_PROCESS)
    train(tiny(tmp_path / "fork"), ONE_PROCESS, resume=str(tmp_path / "run/checkpoints/step-00000002"))
    assert final_bytes(tmp_path / "fork") == final_bytes(tmp_path / "run")


def test_same_command_continues_a_fork(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tiny(tmp_path / "run", "checkpoint.keep=9"), ONE_PROCESS)
    origin, fork = str(tmp_path / "run/checkpoints/step-00000002"), tmp_path / "fork"
    for last, kept in ((3, []), (5, [4])):  # before its first checkpoint, and after it
        with monkeypatch.context() as patch:
            patch.setattr(trainer, "update_average", fails_after(last))
            with pytest.raises(RuntimeError, match="broken"):
                train(tiny(fork), ONE_PROCESS, resume=origin)
        assert [step_of(path) for path in folders(fork / "checkpoints")] == kept
    train(tiny(fork), ONE_PROCESS, resume=origin)
    assert final_bytes(fork) == final_bytes(tmp_path / "run")
    assert [row["step"] for row in read_metrics(fork / "metrics.jsonl")] == [3, 4, 5, 6]
    before = contents(fork)
    train(tiny(fork), ONE_PROCESS, resume=origin)
    assert contents(fork) == before, "a finished run is left alone"
    assert str(tmp_path) not in json.dumps(verify(fork / "checkpoints" / "step-00000006").manifest["resumed_from"])


def test_schedule_mismatch_is_printed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    late = tiny(tmp_path / "late", "schedule={images: 96, kind: linear}")
    train(late, ONE_PROCESS)
    printed = capsys.readouterr().out
    assert printed.count("warning: the run ends at 72 images") == printed.count("warning") == 1
    assert "schedule.images = 96; set train.steps=8" in printed
    train(late, ONE_PROCESS)
    assert "warning" not in capsys.readouterr().out, "a finished run is left alone"


def test_data_set_smaller_than_a_batch_repeats(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("L", (30, 30), 100 * number).save(tmp_path / f"{number}.png")
    train(tiny(tmp_path / "run", f"data={{name: folder, root: '{tmp_path}'}}", "train.steps=2"), ONE_PROCESS)
    assert (tmp_path / "run" / "DONE").exists()


def test_two_noise_sources_and_other_precisions_train(tmp_path: Path) -> None:
    for precision in ("fp32", "bf16"):
        train(tiny(tmp_path / precision, f"train.precision={precision}", "train.steps=2"), ONE_PROCESS)
        assert (
            load_file(tmp_path / precision / "checkpoints/step-00000002/G.safetensors")["lift.weight"].dtype
            == torch.float32
        )


def test_curves_of_a_run_with_one_row(tmp_path: Path) -> None:
    write_curves([], tmp_path / "empty.png")
    write_curves([{"kind": "train", "step": 1, "loss/D": 1.0, "loss/G": None}], tmp_path / "one.png")
    assert Image.open(tmp_path / "one.png").size == Image.open(tmp_path / "empty.png").size


def test_debug_reports_its_checks_and_does_not_change_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):  # an older debug run is replaced
        debug(tiny(tmp_path / "run", "train.steps=500"), ONE_PROCESS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run-debug"]
    printed = capsys.readouterr().out
    assert all(
        word in printed for word in ("checked:", "finite", "same bits", "does not change G", "verifies and loads")
    )
    assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(UserError, match="one process, not 2"):
        debug(tiny(tmp_path / "run"), Launch(2, 0, 0, 2, cpu=True, precision=None))


def test_debug_continues_without_a_deterministic_kernel_for_augmentation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On CUDA, grid_sample has none. D's first update does not use it and is still checked twice."""
    augmented, images = (
        tiny(tmp_path / "run", f"objective={{information_trains: trunk, information_from: {seen}}}")
        for seen in ("augmented", "images")
    )
    cuda, cpu = torch.device("cuda", 0), torch.device("cpu")
    assert [has_deterministic_kernels(*each) for each in ((augmented, cuda), (images, cuda), (augmented, cpu))] == [
        False,
        True,
        True,
    ]
    monkeypatch.setattr(debugging, "has_deterministic_kernels", lambda config, device: False)
    warns = []
    real_step = trainer.train_step

    def train_step(state: TrainState, batch: list[MicroBatch]) -> dict[str, torch.Tensor]:
        warns.append(torch.is_deterministic_algorithms_warn_only_enabled())
        metrics = real_step(state, batch)
        with torch.no_grad():
            state.networks.G.lift.weight.add_(len(warns) * 1e-9)  # different bits in each step
        return metrics

    monkeypatch.setattr(trainer, "train_step", train_step)
    debug(augmented, ONE_PROCESS)
    assert "the first D step, computed twice, gives the same bits" in capsys.readouterr().out
    assert set(warns) == {True}
    assert not torch.are_deterministic_algorithms_enabled()


def test_debug_detects_an_update_of_a_frozen_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_step = step.discriminator_step

    def discriminator_step(state: TrainState, *arguments: Any) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            next(state.networks.G.parameters()).add_(1e-9)
        return real_step(state, *arguments)

    monkeypatch.setattr(step, "discriminator_step", discriminator_step)
    with pytest.raises(InfoganError, match=r"the D step changed G\.lift\.weight"):
        debug(tiny(tmp_path / "run"), ONE_PROCESS)
    folder = tmp_path / "other-debug"
    folder.mkdir()
    (folder / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="is not a debug run"):
        debug(tiny(tmp_path / "other"), ONE_PROCESS)
    assert (folder / "mine.txt").exists()


def test_debug_deletes_only_folders_of_debug_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tiny(tmp_path / "exp-debug"), ONE_PROCESS)
    before = contents(tmp_path / "exp-debug")
    with pytest.raises(UserError, match="exp-debug exists and is not a debug run; move it away"):
        debug(tiny(tmp_path / "exp"), ONE_PROCESS)
    assert contents(tmp_path / "exp-debug") == before


def test_run_that_continues_a_debug_run_loses_its_debug_marker(tmp_path: Path) -> None:
    debug(tiny(tmp_path / "exp"), ONE_PROCESS)
    assert (tmp_path / "exp-debug" / "DEBUG").exists()
    small = debug_config(tiny(tmp_path / "exp"))
    train(small.model_copy(update={"train": small.train.model_copy(update={"steps": 4})}), ONE_PROCESS)
    before = contents(tmp_path / "exp-debug")
    with pytest.raises(UserError, match="is not a debug run"):
        debug(tiny(tmp_path / "exp"), ONE_PROCESS)
    assert contents(tmp_path / "exp-debug") == before


def test_debug_does_not_delete_a_running_debug_run(tmp_path: Path) -> None:
    debug(tiny(tmp_path / "exp"), ONE_PROCESS)
    with (tmp_path / "exp-debug" / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = contents(tmp_path / "exp-debug")
        with pytest.raises(UserError, match="is in use by"):
            debug(tiny(tmp_path / "exp"), ONE_PROCESS)
        assert contents(tmp_path / "exp-debug") == before


def test_debug_keeps_a_run_that_it_finds_only_after_locking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from infogan_dist.diagnostics import debug as debugging

    real_check = debugging._check_repeats

    def meanwhile(*arguments: Any) -> None:
        real_check(*arguments)
        (tmp_path / "exp-debug" / "checkpoints").mkdir(parents=True)
        (tmp_path / "exp-debug" / "config.yaml").write_text("of another run")

    monkeypatch.setattr(debugging, "_check_repeats", meanwhile)
    with pytest.raises(UserError, match="is not a debug run"):
        debug(tiny(tmp_path / "exp"), ONE_PROCESS)
    assert (tmp_path / "exp-debug" / "config.yaml").read_text() == "of another run"


def contents(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (folder, *folder.rglob("*"))}


def test_profile_prints_operations_and_writes_a_trace(infogan: Command, tmp_path: Path) -> None:
    settings = (
        "debug",
        "output=run",
        "networks.width=2",
        "train.global_batch=12",
        "sample.every=0",
        "train.precision=fp32",
    )
    short = infogan("train", *settings, "train.steps=3", "--profile")
    assert "no profile: it begins after 12 steps" in short.stdout
    whole = infogan("train", *settings, "train.steps=20", "--profile")
    assert whole.returncode == 0, whole.stderr
    assert "Self CPU time total" in whole.stdout
    assert "aten::" in whole.stdout
    events = json.loads((tmp_path / "run" / "profile" / "trace.json").read_text())["traceEvents"]
    steps = {event["name"] for event in events if event.get("name", "").startswith("ProfilerStep")}
    assert len(steps) == 5
    refused(infogan("train", *settings, "--profile", "--debug"), "--profile without it")
