"""Trackers: reads the files of TensorBoard and offline W&B back, also after a resume."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from PIL import Image

from infogan_dist.checkpoints.run_folder import RunFolder, read_metrics
from infogan_dist.checkpoints.store import folders, verify
from infogan_dist.config.reading import dotted
from infogan_dist.config.schema import Config
from infogan_dist.diagnostics.doctor import doctor
from infogan_dist.distributed import trackers
from infogan_dist.errors import UserError
from infogan_dist.training import trainer
from infogan_dist.training.loop import train
from tests.conftest import ONE_PROCESS, Command, fails_after, tiny


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """W&B without a server, with caches and settings in a folder of the test."""
    pytest.importorskip("wandb", reason="the extra test-full is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for kind in ("CACHE", "CONFIG", "DATA", "ARTIFACT"):
        monkeypatch.setenv(f"WANDB_{kind}_DIR", str(tmp_path / "wandb-own"))


class Scalars(GeneralTracker):
    """A tracker without images that fails in the methods its class names."""

    name = "scalars"
    requires_logging_directory = False
    fails_in = ""
    logged: list[int] = []
    ended: list[str] = []

    def __init__(self, run_name: str):
        super().__init__()
        self.run_name = run_name

    @property
    def tracker(self) -> None:
        return None

    def start(self) -> None:
        self._fail("start")

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        self._fail(f"log {step}")
        self.logged.append(step or 0)

    def finish(self) -> None:
        self.ended.append("finish")

    def _fail(self, here: str) -> None:
        if here == self.fails_in:
            raise ConnectionError("no route to the server\nand more lines")


@pytest.fixture
def scalars(monkeypatch: pytest.MonkeyPatch) -> type[Scalars]:
    """Registers `scalars` as a tracker of Accelerate."""
    kind = type("Fresh", (Scalars,), {"logged": [], "ended": []})
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "scalars", kind)
    monkeypatch.setattr(trackers, "get_available_trackers", lambda: ["scalars", "tensorboard", "wandb"])
    return kind


def tensorboard(run: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import IMAGES, EventAccumulator

    return EventAccumulator(str(run / "tensorboard"), size_guidance={IMAGES: 0}).Reload()


def interrupted(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train to step 5, which is lost after the checkpoint of step 4, and then to the end."""
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "update_average", fails_after(5))
        with pytest.raises(RuntimeError, match="broken"):
            train(config, ONE_PROCESS)
    train(config, ONE_PROCESS)


def test_tensorboard_has_every_scalar_once_images_and_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    config = tiny(run, "log.trackers=[tensorboard]", "sample.every=2")
    interrupted(config, monkeypatch)
    events = tensorboard(run)
    rows = read_metrics(run / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    for key in {*rows[0]} - {"kind", "step", "images_seen"}:
        assert [event.step for event in events.Scalars(key)] == [1, 2, 3, 4, 5, 6], key
        assert [event.value for event in events.Scalars(key)] == pytest.approx([row[key] for row in rows], rel=1e-6)
    for name in ("samples", "samples/continuous_0", "samples/continuous_1"):
        images = events.Images(name)
        assert [image.step for image in images] == [2, 4, 6]
        with Image.open(run / "samples" / f"step-00000006{name[7:].replace('/', '-')}.png") as grid:
            assert (images[-1].width, images[-1].height) == grid.size
    assert events.summary_metadata["_hparams_/session_start_info"].plugin_data.plugin_name == "hparams"
    assert not [path for path in (run / "tensorboard").iterdir() if path.is_dir()], "one run, not one of each start"


def test_tensorboard_has_the_complete_config(tmp_path: Path) -> None:
    from tensorboard.plugins.hparams import plugin_data_pb2

    run = tmp_path / "run"
    config = tiny(run, "log.trackers=[tensorboard]", "train.steps=1")
    train(config, ONE_PROCESS)
    content = tensorboard(run).summary_metadata["_hparams_/session_start_info"].plugin_data.content
    shown = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert set(shown) == set(dotted(config))
    assert shown["train.global_batch"].number_value == 12
    assert shown["networks.family"].string_value == "paper28"
    assert shown["train.cuda_graph"].bool_value is False
    assert json.loads(shown["latents.categorical"].string_value) == [10, 2]


@pytest.mark.usefixtures("offline")
def test_offline_wandb_keeps_its_id_after_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "digits"
    interrupted(tiny(run, "log.trackers=[wandb]", "sample.every=3"), monkeypatch)
    run_id = (run / "run_id").read_text().strip()
    first, second = sorted((run / "wandb").glob(f"offline-run-*-{run_id}"))
    for folder, steps, grids in ((first, [1, 2, 3, 4, 5], [3]), (second, [5, 6], [6])):
        history, start = wandb_records(folder / f"run-{run_id}.wandb")
        assert start.run_id == run_id
        assert start.display_name == "digits"
        assert start.project == "infogan_dist"
        assert [int(row["_step"]) for row in history if "loss/D" in row] == steps
        assert [int(row["_step"]) for row in history if "samples/_type" in row] == grids
        assert len(list((folder / "files/media/images").rglob("*.png"))) == 3 * len(grids)
    values = {int(row["_step"]): row["loss/D"] for row in history if "loss/D" in row}
    assert values[6] == pytest.approx(read_metrics(run / "metrics.jsonl")[-1]["loss/D"])


def wandb_records(path: Path) -> tuple[list[dict[str, Any]], Any]:
    """The history rows and the run record of an offline run. Waits until W&B's process has finished the file."""
    from google.protobuf.message import DecodeError
    from wandb.proto import wandb_internal_pb2

    deadline, records = time.monotonic() + 60, []
    while not any(record.WhichOneof("record_type") == "exit" for record in records):
        assert time.monotonic() < deadline, f"{path} does not end"
        time.sleep(0.1)
        with suppress(DecodeError):  # an unfinished file
            records = [wandb_internal_pb2.Record.FromString(data) for data in leveldb_records(path.read_bytes())]
    history, started = [], None
    for record in records:
        if record.WhichOneof("record_type") == "run":
            started = record.run
        if record.WhichOneof("record_type") == "history":
            items = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
            history.append(items | {"_step": record.history.step.num})
    return history, started


def leveldb_records(data: bytes) -> list[bytes]:
    """The records of a log in LevelDB's format: blocks of 32 KiB; checksum, length and kind before each part of a record.

    W&B's own header takes the first 7 bytes of the first block.
    """
    block, header = 32768, 7
    records, parts, at = [], b"", header
    while at + header <= len(data):
        left = block - at % block
        if left < header:  # padding
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        parts += data[at + header : at + header + length]
        at += header + length
        if kind in (1, 4):  # whole, or the last part
            records.append(parts)
            parts = b""
    return records


def test_tracker_that_cannot_start_fails_the_run_in_one_line(tmp_path: Path, scalars: type[Scalars]) -> None:
    run = tmp_path / "run"
    config = tiny(run, "log.trackers=[tensorboard,scalars]")
    scalars.fails_in = "start"
    with pytest.raises(
        UserError, match=r"^log\.trackers: scalars cannot start: no route to the server; fix it"
    ) as caught:
        train(config, ONE_PROCESS)
    assert "\n" not in str(caught.value)
    assert (run / "FAILED").read_text() == f"{caught.value}\n"
    assert not (run / "DONE").exists()
    scalars.fails_in = ""
    train(config, ONE_PROCESS)  # the lock is free
    assert (run / "DONE").exists()
    assert not (run / "FAILED").exists()
    assert [event.step for event in tensorboard(run).Scalars("loss/D")] == [1, 2, 3, 4, 5, 6]


def test_tracker_that_fails_later_is_dropped_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], scalars: type[Scalars]
) -> None:
    scalars.fails_in = "log 3"
    train(tiny(tmp_path / "run", "log.trackers=[scalars,tensorboard]"), ONE_PROCESS)
    assert scalars.logged == [1, 2]
    printed = capsys.readouterr().out
    assert printed.count("warning: scalars failed and is left out: no route to the server\n") == printed.count(
        "scalars failed"
    )
    assert printed.count("scalars failed") == 1
    assert [event.step for event in tensorboard(tmp_path / "run").Scalars("loss/D")] == [1, 2, 3, 4, 5, 6]
    assert len(read_metrics(tmp_path / "run" / "metrics.jsonl")) == 6


def test_tracker_without_images_is_warned_about_once_and_ended_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], scalars: type[Scalars]
) -> None:
    train(tiny(tmp_path / "run", "log.trackers=[scalars]", "sample.every=1"), ONE_PROCESS)
    assert capsys.readouterr().out.count("scalars: Accelerate logs no images there; the grids are in") == 1
    assert scalars.logged == [1, 2, 3, 4, 5, 6]
    assert scalars.ended == ["finish"]


def test_invalid_run_id_is_replaced_and_run_without_trackers_has_none(tmp_path: Path) -> None:
    train(tiny(tmp_path / "run", "train.steps=1"), ONE_PROCESS)
    assert not (tmp_path / "run" / "run_id").exists()
    for forged in ("", "../../elsewhere", "0123456789abcdef0"):
        (tmp_path / "run" / "run_id").write_text(forged)
        with RunFolder(
            tiny(tmp_path / "run", "train.steps=2"), verify(folders(tmp_path / "run/checkpoints")[0])
        ) as folder:
            made = folder.run_id()
            assert len(made) == 16
            assert folder.run_id() == made


def test_ranks_share_one_tracker_and_fail_together(infogan: Command, tmp_path: Path) -> None:
    small = ("debug", "networks.width=2", "train={global_batch: 12, steps: 4, threads: 1}", "log.every=1", "output=run")
    command = ("train", *small, "log.trackers=[tensorboard]")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").write_text("in the way")
    failed = infogan(*command, processes=2)
    assert failed.returncode == 1
    assert failed.stderr.count("infogan-dist: log.trackers: tensorboard cannot start: ") == 1
    assert "tensorboard cannot start" in (tmp_path / "run" / "FAILED").read_text()
    (tmp_path / "run" / "tensorboard").unlink()
    trained = infogan(*command, processes=2)
    assert trained.returncode == 0, trained.stderr
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1
    assert [event.step for event in tensorboard(tmp_path / "run").Scalars("loss/D")] == [1, 2, 3, 4]


@pytest.mark.usefixtures("offline")
def test_doctor_starts_tensorboard_and_asks_for_wandbs_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(tmp_path / "run", "log.trackers=[tensorboard,wandb]")
    doctor(config, ONE_PROCESS)
    assert "ok      trackers: tensorboard, wandb" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()
    with monkeypatch.context() as patch:
        patch.setattr(
            LOGGER_TYPE_TO_CLASS["tensorboard"], "start", lambda self: (_ for _ in ()).throw(OSError("broken"))
        )
        with pytest.raises(UserError, match="1 problem"):
            doctor(config, ONE_PROCESS)
        assert "problem trackers: log.trackers: tensorboard cannot start: broken" in capsys.readouterr().out
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "wandb").write_text("in the way")
    with pytest.raises(UserError, match="1 problem"):
        doctor(config, ONE_PROCESS)
    assert "run/wandb is not a folder; move it away" in capsys.readouterr().out


def test_doctor_says_that_wandb_has_no_key(infogan: Command, tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="the extra test-full is not installed")
    online = {
        "WANDB_MODE": "online",
        "WANDB_API_KEY": "",
        "WANDB_BASE_URL": "http://localhost:9",
        "HOME": str(tmp_path),
    }
    online |= {f"WANDB_{kind}_DIR": str(tmp_path / "own") for kind in ("CACHE", "CONFIG", "DATA")}
    command = ("debug", "output=run", "log.trackers=[wandb]", "train.steps=1", "networks.width=2")
    result = infogan("doctor", *command, **online)
    assert result.returncode == 2, result.stderr
    assert "problem trackers: log.trackers: wandb has no API key; run `wandb login`" in result.stdout
    trained = infogan("train", *command, **online)
    assert trained.returncode == 2, trained.stderr
    assert "Traceback" not in trained.stderr
    assert trained.stderr.count("infogan-dist: log.trackers: wandb cannot start: ") == 1
    assert (tmp_path / "run" / "FAILED").exists()
