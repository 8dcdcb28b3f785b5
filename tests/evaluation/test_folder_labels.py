"""Names of subfolders are labels, for evaluation only."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from infogan_dist.__main__ import main
from infogan_dist.config.model import DataConfig
from infogan_dist.evaluation.code_names import names_of
from infogan_dist.evaluation.folder_labels import classes_of, labels_of
from infogan_dist.evaluation.labels import open_labelled
from infogan_dist.training.loop import train
from tests.conftest import ONE_PROCESS, tiny

SIZES = {"Big Cats": 12, "dogs": 8}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    """Dark images in one subfolder, some of them deeper, and bright ones in another."""
    for name, count in SIZES.items():
        for number in range(count):
            path = tmp_path / "images" / name / ("deep" if number % 2 else ".") / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (28, 28), 8 * number + 100 * (name == "dogs")).save(path)
    return DataConfig(name="folder", root=str(tmp_path / "images"))


def root(data: DataConfig) -> Path:
    return Path(str(data.root))


def test_labels_are_the_numbers_of_sorted_subfolders(data: DataConfig) -> None:
    assert classes_of(data) == ("Big Cats", "dogs")
    assert labels_of(data, "train").tolist() == [0] * 12 + [1] * 8


def test_one_subfolder_or_an_image_outside_gives_no_labels(data: DataConfig) -> None:
    assert classes_of(data.model_copy(update={"root": str(root(data) / "dogs")})) == ()
    Image.new("L", (28, 28)).save(root(data) / "outside.png")
    assert classes_of(data) == ()


def test_a_broken_file_has_the_label_of_its_replacement(data: DataConfig) -> None:
    (root(data) / "Big Cats" / "zz.png").write_bytes(b"")  # the last of its subfolder
    skipping = data.model_copy(update={"skip_broken": True})
    assert labels_of(data, "train").tolist() == [0] * 13 + [1] * 8
    assert labels_of(skipping, "train").tolist() == [0] * 12 + [1] * 9


def test_held_out_images_keep_their_labels(data: DataConfig) -> None:
    held = open_labelled(data.model_copy(update={"held_out": 0.25}), "test")
    assert len(held.source) == 5
    brightness = held.source.read(*[held.labels.new_tensor(range(5))]).float().mean((1, 2, 3))
    assert ((brightness >= 100) == (held.labels == 1)).all()


def test_a_run_on_a_folder_is_scored_named_drawn_and_encoded(
    data: DataConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, table, sheet = tmp_path / "run", tmp_path / "codes.csv", tmp_path / "classes.png"
    given = f"data={{name: folder, root: {data.root}, held_out: 0.2}}"
    train(tiny(run, given, "latents.categorical=[2]", "train.precision=fp32"), ONE_PROCESS)
    assert main(["evaluate", str(run), "--name-codes", "--json", str(tmp_path / "a.json")]) == 0
    metrics = json.loads((tmp_path / "a.json").read_text())
    assert 0 <= metrics["code_error"] <= 1
    assert "failed" not in metrics
    assert set(metrics["matching"]["names"].values()) <= set(SIZES)
    names = names_of(run)
    assert names is not None
    assert names.names == metrics["matching"]["names"]
    (number, name), *_ = names.names.items()
    assert names.class_of(name.upper()) == int(number)
    assert main(["sample", str(run), "--class", name, "--out", str(tmp_path / "a.png"), "--count", "2"]) == 0
    encode = ["encode", str(run), "--images", str(data.root), "--out", str(table), "--sheet", str(sheet)]
    assert main(encode) == 0
    rows = list(csv.DictReader(table.open()))
    assert len(rows) == 20
    named = {row["categorical_0"]: row["categorical_0_name"] for row in rows}
    assert all(named[key] == value for key, value in names.names.items() if key in named)
    assert main(["sample", str(run), "--class", "birds", "--out", str(tmp_path / "b.png")]) == 2
    assert "no class of categorical_0 is matched to birds; there are" in capsys.readouterr().err
