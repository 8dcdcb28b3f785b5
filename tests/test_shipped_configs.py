"""Every shipped config trains, resumes, samples and evaluates on stand-in data, on one and on two processes that agree.

Networks are narrow and batches small (tests/shipped_configs.py).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infogan_dist.__main__ import main
from infogan_dist.checkpoints.store import find
from infogan_dist.evaluation.labels import class_names
from tests.conftest import ROOT, SHIPPED, clean_environment
from tests.shipped_configs import BATCH, exercise, overrides, patches, write_stand_ins

STEPS = 50


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of all stand-in files, for this module with what makes the data and its evaluation small."""
    root = tmp_path_factory.mktemp("stand-ins") / "data"
    write_stand_ins(root)
    return root


@pytest.fixture(scope="module", autouse=True)
def _patched(stand_ins: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        for each in patches(stand_ins):
            patch.setattr(*each)
        yield


@pytest.fixture(scope="module")
def two_processes(stand_ins: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the runs of all configs on two processes, which train all of them."""
    folder = tmp_path_factory.mktemp("two")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = ["-m", "tests.shipped_configs", str(stand_ins), str(folder), str(STEPS)]
    result = subprocess.run(
        [sys.executable, *launcher, *arguments],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=3600,  # for a hang
    )
    (folder / "stdout").write_text(result.stdout)
    (folder / "stderr").write_text(result.stderr)
    return folder


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line, parse_constant=not_finite) for line in (run / "metrics.jsonl").read_text().splitlines()]


def not_finite(constant: str) -> None:
    pytest.fail(f"a metric is {constant}")


def check(run: Path, report: Path) -> None:
    """The run is complete, its checkpoint loads, it has pictures, and its metrics are finite."""
    assert (run / "DONE").exists()
    checkpoint = find(run)
    assert (checkpoint.step, checkpoint.images_seen) == (STEPS, STEPS * BATCH)
    assert {"G", "G_ema", "FE", "D", "Q"} <= checkpoint.load().keys()
    for step in (STEPS // 2, STEPS):
        assert (run / "samples" / f"step-{step:08d}.png").stat().st_size > 0
    recorded = {(row["kind"], row["step"]) for row in rows(run)}
    assert {("train", STEPS // 2), ("train", STEPS), ("evaluate", STEPS // 2), ("evaluate", STEPS)} <= recorded
    metrics = json.loads(report.read_text())
    metrics.pop("reverse_kl", None)  # infinite if G draws a digit that the classifier finds in no stand-in
    json.dumps(metrics, allow_nan=False)
    config = checkpoint.config
    labelled = bool(class_names(config.data) and config.latents.categorical)
    assert ("code_error" in metrics) == labelled
    assert set(metrics["mutual_information"]) == {
        *(f"categorical_{number}" for number in range(len(config.latents.categorical))),
        *(f"continuous_{number}" for number in range(config.latents.continuous)),
    }


def check_samples(run: Path, folder: Path) -> None:
    """`sample` draws images of the config's shape."""
    assert main(["sample", str(run), "--out", str(folder / "images.npz"), "--count", "3"]) == 0
    data = find(run).config.data
    with np.load(folder / "images.npz") as drawn:
        assert drawn["images"].shape == (3, data.image_size, data.image_size, data.channels)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_config_trains_resumes_samples_and_evaluates_on_one_and_two_processes(
    name: str,
    stand_ins: Path,
    two_processes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert exercise(name, stand_ins, tmp_path, STEPS) == [0, 0, 0]
    printed = {tmp_path: capsys.readouterr().out}
    both = two_processes
    printed[both] = (both / "stdout").read_text()
    one, two = tmp_path / name, both / name
    assert (two / "DONE").exists(), (both / "stderr").read_text()[-3000:]
    for folder in (tmp_path, both):
        assert f"training {folder / name} continuing after step {STEPS // 2}:" in printed[folder]
        check(folder / name, folder / f"{name}.json")
        check_samples(folder / name, tmp_path)
    state, other = (find(run).load() for run in (one, two))
    for stem, tensors in state.items():
        for key, tensor in tensors.items():
            assert (tensor - other[stem][key]).abs().max() <= 1e-9, f"{stem}/{key}"
    for ours, theirs in zip(rows(one), rows(two), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-9)
    # the scores of one checkpoint are the same bytes on any number of processes
    assert main(["evaluate", str(two), "--json", str(tmp_path / "again.json")]) == 0
    assert (tmp_path / "again.json").read_text() == (both / f"{name}.json").read_text()


@pytest.mark.parametrize("data", ["fashion-mnist", "kmnist"])
def test_mnist_trains_on_other_data_of_its_layout_unchanged(data: str, stand_ins: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    given = [f"data.name={data}", f"data.root={stand_ins}", f"output={run}"]
    assert main(["train", "mnist", *given, "networks.width=2", "train.steps=2", "train.threads=1"]) == 0
    assert (run / "samples" / "step-00000002.png").exists()
    check_samples(run, tmp_path)
    assert main(["evaluate", str(run), "--name-codes", "--json", str(tmp_path / "metrics.json")]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=not_finite)
    assert metrics["data"] == data
    assert 0 <= metrics["code_error"] <= 1


def test_what_is_specific_to_a_config_is_kept(stand_ins: Path) -> None:
    """The overrides change sizes and lengths only."""
    changed = {key.partition("=")[0] for name in SHIPPED for key in overrides(name, stand_ins, Path("run"), 50)}
    assert changed == {
        *("output", "data.root", "networks.width", "train.global_batch", "train.precision", "train.threads"),
        *("schedule.images", "sample.every", "checkpoint.every", "evaluate.every", "log.every"),
    }
