"""The command line as a user meets it: each case a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from infogan_dist.__main__ import main
from infogan_dist.cli import COMMANDS
from infogan_dist.config import yaml_core
from infogan_dist.config.reading import load_config, parse_config
from tests.conftest import Command, refused

TINY = ("debug", "networks.width=4", "train={global_batch: 12, steps: 4, threads: 1}", "output=run")


def test_help_imports_nothing_heavy_and_every_command_prints_an_example(infogan: Command) -> None:
    code = (
        "import sys, infogan_dist.__main__ as m\n"
        "try: m.main(['--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(bool({'torch', 'pydantic', 'accelerate', 'numpy'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    for command in COMMANDS:
        assert "example: infogan-dist " + command in infogan(command, "--help").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("trian",), ["trian"]),
        (("train",), ["CONFIG"]),
        (("train", "nowhere.yaml"), ["there is no config nowhere.yaml"]),
        (("train", *TINY, "train.stepz=3"), ["unknown config key train.stepz", "train.steps"]),
        (("train", *TINY, "train.steps=many"), ['train.steps = "many"']),
        (("train", *TINY, "data={name: folder, root: nowhere}"), ["data.root = nowhere"]),
        (("train", *TINY, "output=/proc/run"), ["/proc/run"]),
        (("train", *TINY, "--precision", "fp16"), ["--precision"]),
        (("train", *TINY, "train.precision=fp16"), ["fp16 needs a GPU"]),
        (("train", *TINY, "log.trackers=[tensorbord]"), ["tensorbord"]),
        (("train", *TINY, "--resume", "elsewhere"), ["there is no elsewhere"]),
        (("sample", "nowhere", "--out", "a.png"), ["there is no nowhere"]),
        (("sample", "nowhere"), ["--out"]),
        (("sample", "nowhere", "--out", "a.gif"), ["--out a.gif ends in .gif", ".png"]),
        (("sample", "nowhere", "--out", "a.png", "--count", "x"), ["--count"]),
        (("evaluate",), ["CHECKPOINT"]),
        (("evaluate", "nowhere"), ["there is no nowhere"]),
        (("convert", "nowhere", "--to", "onnx", "--out", "a"), ["onnx"]),
        (("convert", "nowhere", "--to", "safetensors", "--out", "a.bin"), ["a.bin"]),
    ],
)
def test_what_is_wrong_is_one_line_and_leaves_nothing(
    infogan: Command, tmp_path: Path, arguments: tuple[str, ...], words: list[str]
) -> None:
    refused(infogan(*arguments), *words)
    assert list(tmp_path.iterdir()) == []


def test_the_silent_single_process_is_refused(infogan: Command, tmp_path: Path) -> None:
    refused(infogan("train", *TINY, MASTER_PORT="29500"), "started one", "torchrun")
    eight = {"WORLD_SIZE": "8", "RANK": "0", "LOCAL_WORLD_SIZE": "8", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    refused(infogan("train", *TINY, **eight, LOCAL_RANK="0"), "12 is not divisible by 8", "8 or 16")
    refused(infogan("train", *TINY, **eight), "WORLD_SIZE = 8 is set without LOCAL_RANK")
    assert list(tmp_path.iterdir()) == []


def test_a_launchers_precision_is_told_and_the_config_counts(infogan: Command) -> None:
    result = infogan("train", *TINY, "--dry-run", ACCELERATE_MIXED_PRECISION="bf16")
    assert "the launcher asks for bf16" in result.stderr
    assert infogan("train", *TINY, "--dry-run", ACCELERATE_MIXED_PRECISION="no").stderr == ""


def test_a_dry_run_prints_a_config_that_loads_back_and_makes_nothing(infogan: Command, tmp_path: Path) -> None:
    result = infogan("train", "debug", "--dry-run", "output=run", "seed=3")  # options may stand between overrides
    assert parse_config(yaml_core.load(result.stdout, "dry run")) == load_config("debug", ["output=run", "seed=3"])
    assert list(tmp_path.iterdir()) == []


def test_train_sample_and_convert_one_after_the_other(infogan: Command, tmp_path: Path) -> None:
    trained = infogan("train", *TINY)
    assert trained.returncode == 0, trained.stderr
    assert (tmp_path / "run" / "DONE").exists()
    assert infogan("convert", "run", "--to", "safetensors", "--out", "deep/G.safetensors").returncode == 0
    sampled = infogan("sample", "deep/G.safetensors", "--out", "a.npz", "--count", 5, "--set", "categorical_0=7")
    assert sampled.returncode == 0, sampled.stderr
    assert np.load(tmp_path / "a.npz")["images"].shape == (5, 28, 28, 1)
    refused(infogan("sample", "run", "--out", "b.png", "--set", "digit=7"), "there is no code digit")
    refused(infogan("sample", "run", "--out", "b.png", "--set", "categorical_0=x"), "CODE=NUMBER")
    before = sorted(tmp_path.rglob("*"))
    refused(infogan("sample", "run", "--out", "run"), "into the run")
    inside = "run/checkpoints/step-00000004/G_ema.safetensors"
    refused(infogan("convert", "run", "--to", "safetensors", "--out", inside), "is inside the checkpoint")
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "run/checkpoints/step-00000004/D.safetensors").unlink()
    refused(infogan("train", *TINY), "D.safetensors is missing", code=4)


def test_several_processes_train_and_go_on_as_one(infogan: Command, tmp_path: Path) -> None:
    for steps, processes in ((2, 2), (4, 1)):
        result = infogan("train", *TINY, "train.precision=fp64", f"train.steps={steps}", processes=processes)
        assert result.returncode == 0, result.stderr
        assert f"{processes} process" in result.stdout
    assert (tmp_path / "run" / "samples" / "step-00000004-continuous_1.png").exists()


def test_a_command_leaves_the_signals_of_its_process_as_they_were() -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert main(["train", "nowhere.yaml"]) == 2
    assert signal.getsignal(signal.SIGTERM) is before


def test_torchrun_finds_the_line_for_its_summary(infogan: Command, tmp_path: Path) -> None:
    refused(
        infogan("train", "debug", "train.stepz=1", TORCHELASTIC_ERROR_FILE=str(tmp_path / "error.json")), "train.stepz"
    )
    assert "unknown config key train.stepz" in json.loads((tmp_path / "error.json").read_text())["message"]["message"]
