from __future__ import annotations

import fcntl
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from infogan_dist.checkpoints.store import folders
from infogan_dist.config.schema import Config
from infogan_dist.data.host_memory import _available_in
from infogan_dist.data.sources import ArraySource
from infogan_dist.diagnostics import doctor as checks
from infogan_dist.diagnostics import preflight
from infogan_dist.diagnostics.doctor import doctor
from infogan_dist.diagnostics.preflight import OutOfMemory
from infogan_dist.distributed.agreement import format_ranks
from infogan_dist.distributed.launcher import Launch
from infogan_dist.errors import UserError
from infogan_dist.networks import Networks
from infogan_dist.training import train_state
from infogan_dist.training.loop import train
from infogan_dist.training.trainer import Trainer
from tests.conftest import ONE_PROCESS, ROOT, Command, clean_environment, refused, tiny

TOPICS = ["processes", "setup", "output", "data", "batch", "networks", "range", "step", "duration", "memory", "disk"]


class Report:
    """The lines that doctor printed for a config, and the error that it raised."""

    def __init__(self, config: Config, capsys: pytest.CaptureFixture[str]):
        self.error: UserError | None = None
        try:
            doctor(config, ONE_PROCESS)
        except UserError as error:
            self.error = error
        self.lines = capsys.readouterr().out.splitlines()

    def levels(self) -> dict[str, str]:
        """The worst level of each topic."""
        found: dict[str, str] = {}
        for line in self.lines:
            level, topic = line.split(":")[0].split()
            found[topic] = max(found.get(topic, ""), level, key=["", "ok", "warning", "problem"].index)
        return found

    def of(self, topic: str) -> str:
        return "\n".join(line for line in self.lines if line.split(":")[0].endswith(f" {topic}"))


def contents(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (folder, *folder.rglob("*"))}


def test_a_valid_config_is_ok_in_every_topic_and_no_file_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(tmp_path)
    report = Report(tiny(tmp_path / "run", "train.accumulate=3"), capsys)
    assert report.error is None
    assert report.levels() == dict.fromkeys(TOPICS, "ok")
    assert contents(tmp_path) == before
    # width 4: 18 + 14 latents -> 64 -> 8 x 7 x 7 -> 4 x 14 x 14 -> 1 x 28 x 28; a norm has two parameters a channel
    G = 32 * 64 + 2 * 64 + 64 * 8 * 49 + 2 * 8 + 8 * 4 * 16 + 2 * 4 + 4 * 16 + 1
    FE = 4 * 16 + 4 + 4 * 8 * 16 + 2 * 8 + 8 * 49 * 64 + 2 * 64
    Q = 64 * 128 + 2 * 128 + 129 * 16
    assert f"G {G:,}, FE {FE:,}, D 65, Q {Q:,}" in report.of("networks")
    assert "12 images a step, 3 micro-batches of 4 each" in report.of("batch")
    assert "10,000 images of mnist-mini, 0.0072 epochs in 6 steps" in report.of("data")
    assert "train starts at step 1 of 6" in report.of("output")
    assert f"on {socket.gethostname()}: cpu, 1 thread, fp64" in report.of("processes")
    parameters = 8 * (G + FE + 65 + Q)
    assert f"gradients {parameters / 1e6:.1f} MB, optimizer {2 * parameters / 1e6:.1f} MB" in report.of("memory")


def test_ranks_are_named() -> None:
    assert format_ranks([0], processes=1) == "this process"
    assert format_ranks([0, 1, 2], processes=3) == "all 3 ranks"
    assert format_ranks([2], processes=3) == "rank 2"
    assert format_ranks([0, 1, 4, 5, 6, 9], processes=10) == "ranks 0, 1, 4 to 6, 9"


def test_the_memory_limit_of_a_container_is_used(tmp_path: Path) -> None:
    assert _available_in(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.stat").write_text("anon 300\nfile 500\n")
    assert _available_in(tmp_path) == 700
    (tmp_path / "memory.max").write_text("max\n")
    assert _available_in(tmp_path) is None


def build_changed(monkeypatch: pytest.MonkeyPatch, change: Callable[[Networks], None]) -> None:
    """Build every train state with changed networks."""
    real = train_state.build_networks

    def build_networks(config: Config) -> Networks:
        networks = real(config)
        change(networks)
        return networks

    monkeypatch.setattr(train_state, "build_networks", build_networks)


def test_an_unused_parameter_is_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(networks: Networks) -> None:
        networks.FE.register_parameter("spare", nn.Parameter(torch.zeros(3)))

    build_changed(monkeypatch, change)
    report = Report(tiny(tmp_path / "run"), capsys)
    assert "no gradient for FE.spare; use it in the loss of its module or remove it" in report.of("step")
    assert str(report.error).startswith("1 problem to solve")


@pytest.mark.parametrize(
    ("images", "level", "words"),
    [
        (torch.arange(28 * 28 * 3).reshape(3, 1, 28, 28), "problem", "the reals range from -1.00 to 17.44, outside"),
        (torch.rand(3, 1, 28, 28), "warning", "the reals range from -1.00 to -0.99, a small part of"),
    ],
)
def test_reals_with_an_unexpected_range_are_reported(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    images: Tensor,
    level: str,
    words: str,
) -> None:
    monkeypatch.setattr(preflight, "open_images", lambda data: ArraySource(images))
    report = Report(tiny(tmp_path / "run"), capsys)
    assert report.levels()["range"] == level
    assert words in report.of("range")
    assert (report.error is not None) == (level == "problem")
    assert "3 images are fewer than train.global_batch = 12" in report.of("data")


def test_a_generator_without_tanh_is_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(networks: Networks) -> None:
        for G in (networks.G, networks.G_ema):
            G.tanh = nn.Sigmoid()  # type: ignore[assignment]

    build_changed(monkeypatch, change)
    assert "end it with a tanh" in Report(tiny(tmp_path / "run"), capsys).of("range")


def test_images_of_one_colour_are_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "images").mkdir()
    for number in range(12):
        image = Image.linear_gradient("L") if number < 9 else Image.new("L", (30, 30), 200)
        image.save(tmp_path / "images" / f"{number:02d}.png")
    report = Report(tiny(tmp_path / "run", f"data={{name: folder, root: '{tmp_path}/images'}}"), capsys)
    assert report.error is None
    assert "3 of the first 12 images are of one colour" in report.of("data")


def test_a_run_that_ends_before_its_schedule_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(tiny(tmp_path / "run", "schedule={images: 96, kind: linear}"), capsys)
    assert report.error is None
    assert report.levels()["schedule"] == "warning"
    assert "ends at 72 images" in report.of("schedule")
    assert "schedule.images = 96" in report.of("schedule")


@pytest.mark.parametrize(
    ("override", "topic", "words"),
    [
        ("data={name: folder, root: nowhere}", "data", ["data.root = nowhere is not a folder"]),
        ("output=/proc/run", "output", ["output = /proc/run", "choose another output"]),
        ("train.precision=fp16", "output", ["fp16 needs a GPU"]),
        ("log.trackers=[tensorbord]", "trackers", ["no tracker tensorbord"]),
    ],
)
def test_what_train_would_refuse_is_a_problem_and_other_topics_are_still_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, topic: str, words: list[str]
) -> None:
    report = Report(tiny(tmp_path / "run", override), capsys)
    assert report.levels()[topic] == "problem"
    assert report.error is not None
    assert all(word in report.of(topic) for word in words)
    assert report.levels().keys() >= {*TOPICS} - {"range"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("reachable", "level"), [(True, "warning"), (False, "problem")])
def test_missing_images_are_not_downloaded(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    reachable: bool,
    level: str,
) -> None:
    monkeypatch.setattr(preflight, "_answers", lambda urls: reachable)
    report = Report(tiny(tmp_path / "run", f"data={{name: mnist, root: '{tmp_path}/data'}}"), capsys)
    assert report.levels()["data"] == level
    assert "holds no mnist" in report.of("data")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_run_is_reported_and_not_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    train(tiny(run), ONE_PROCESS)
    capsys.readouterr()
    before = contents(tmp_path)
    assert "is done; train changes nothing" in Report(tiny(run), capsys).of("output")
    longer = Report(tiny(run, "train.steps=9", "checkpoint.keep=5"), capsys)
    assert "continues after step 6 to 9" in longer.of("output")
    assert "3 checkpoints of" in longer.of("disk"), "5 kept and one more, of which 3 exist"
    contradicting = Report(tiny(run, "seed=7"), capsys)
    assert "holds a run with seed = 0, not 7" in contradicting.of("output")
    assert contradicting.error is not None
    with (run / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "is in use by process" in Report(tiny(run), capsys).of("output")
    assert contents(tmp_path) == before
    for checkpoint in folders(run / "checkpoints"):
        (checkpoint / "D.safetensors").unlink()
    assert "D.safetensors is missing" in Report(tiny(run), capsys).of("output")


def test_too_little_memory_or_disk_is_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("free_bytes", "bytes_in_use"):
        monkeypatch.setattr(preflight, name, lambda *device: 1000)
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    report = Report(tiny(tmp_path / "run"), capsys)
    assert "too much for this process; train.gradient_checkpointing = true gives " in report.of("memory")
    assert report.levels().keys() == {*TOPICS} - {"step", "duration"}, "no step of the whole batch is run"
    assert "lower checkpoint.keep" in report.of("disk")
    assert str(report.error).startswith("2 problems to solve")

    def step(*_: object) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.undo()
    monkeypatch.setattr(Trainer, "step", step)
    with pytest.raises(OutOfMemory, match=r"a step of 12 images on cpu; raise train.accumulate"):
        doctor(tiny(tmp_path / "run"), ONE_PROCESS)


def test_a_first_step_that_is_not_finite_is_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Trainer.step

    def step(trainer: Trainer, number: int) -> dict[str, Tensor]:
        metrics = real(trainer, number)
        return metrics | {"loss/G": metrics["loss/G"] * float("nan")}

    monkeypatch.setattr(Trainer, "step", step)
    assert "loss/G not finite in the first step" in Report(tiny(tmp_path / "run"), capsys).of("step")


def test_a_rank_other_than_zero_that_cannot_write_is_a_warning(tmp_path: Path) -> None:
    config, reason = tiny(tmp_path / "run"), "output = run: / cannot be written to"
    cluster = SimpleNamespace(on_main=lambda action: action(), poll=lambda ours: {ours: "rank 0", reason: "rank 1"})
    resume = checks.Resume(config, None, finished=False)
    run: Any = SimpleNamespace(config=config, requested=config, resume=resume, cluster=cluster)
    findings = list(checks.check_output(run))
    assert [finding.level for finding in findings] == ["ok", "warning"]
    assert "rank 1, which writes nothing" in findings[1].text


def test_more_processes_than_gpus_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="2 processes were started on a host with 1 GPUs; start 1"):
        doctor(tiny(tmp_path / "run"), Launch(2, 0, 0, 2, cpu=False, precision=None))


def test_two_processes_report_their_ranks_and_the_time_of_an_all_reduce(infogan: Command, tmp_path: Path) -> None:
    result = infogan("doctor", "debug", processes=2)
    assert result.returncode == 0, result.stderr
    host = re.escape(socket.gethostname())
    assert re.search(rf"^ok +processes: all 2 ranks on {host}: cpu, \d threads?, ", result.stdout, re.MULTILINE)
    assert re.search(r"gloo all-reduces [\d.]+ MB.* in [\d.e-]+ ms; 8 bytes in [\d.e-]+ ms", result.stdout)
    assert "the same config and images on all ranks" in result.stdout
    assert "48 images a step, 24 on each of 2 processes" in result.stdout
    assert all(line.startswith("ok ") for line in result.stdout.splitlines()), result.stdout
    assert len(result.stdout.splitlines()) == len(TOPICS) + 1, "only one process prints"
    assert list(tmp_path.iterdir()) == []


def test_two_processes_that_differ_name_the_rank_that_does(tmp_path: Path) -> None:
    for rank in (0, 1):
        (tmp_path / f"images{rank}").mkdir()
        for shade in range(10):
            Image.linear_gradient("L").rotate(shade + rank).save(tmp_path / f"images{rank}" / f"{shade}.png")
    script = tmp_path / "doctor.py"
    script.write_text(DIFFERENT)
    before = contents(tmp_path)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    result = subprocess.run(
        [*launcher, "--rdzv-endpoint", "localhost:0", script],
        cwd=tmp_path,
        env=clean_environment(PYTHONPATH=str(ROOT), PYTHONDONTWRITEBYTECODE="1"),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "infogan-dist: 2 problems to solve" in result.stderr
    assert re.search(r"problem setup: the checksum of .* images is \S+ on rank 1 of 2 on ", result.stdout), (
        result.stderr
    )
    assert "problem step: no gradient for FE.spare" in result.stdout
    assert contents(tmp_path) == before


DIFFERENT = """
import os, sys, torch
from infogan_dist import __main__
from infogan_dist.training import train_state
real = train_state.build_networks
def build_networks(config):
    networks = real(config)
    networks.FE.register_parameter("spare", torch.nn.Parameter(torch.zeros(3)))
    return networks
train_state.build_networks = build_networks
sys.exit(__main__.main(["doctor", "debug", "data.name=folder", f"data.root=images{os.environ['RANK']}"]))
"""


def test_the_command_refuses_what_train_refuses(infogan: Command, tmp_path: Path) -> None:
    refused(infogan("doctor", "debug", "train.stepz=3"), "unknown config key train.stepz")
    five = {"WORLD_SIZE": "5", "RANK": "0", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "5"}
    five |= {"MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    refused(infogan("doctor", "debug", **five), "48 is not divisible by 5", "45 or 50")
    refused(infogan("doctor", "debug", MASTER_PORT="29500"), "started one")
    nowhere = ("train.precision=fp32", "data={name: folder, root: nowhere}")
    result = infogan("doctor", "debug", *nowhere, ACCELERATE_MIXED_PRECISION="bf16")
    refused(result, "1 problem to solve before runs/debug can train")
    assert "warning processes: the launcher asks for bf16; train.precision = fp32 is used" in result.stdout
    assert "on grey images" in result.stdout
    assert "problem data: data.root = nowhere is not a folder" in result.stdout
    assert "example: infogan-dist doctor configs/quickstart.yaml" in infogan("doctor", "--help").stdout
    assert list(tmp_path.iterdir()) == []
