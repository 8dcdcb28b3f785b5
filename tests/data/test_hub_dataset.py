"""Data sets of the Hugging Face library, saved on disk: no network is needed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from infogan_dist.__main__ import main
from infogan_dist.config.model import DataConfig
from infogan_dist.data.hub_dataset import Rows, scan_dataset
from infogan_dist.data.sources import open_images
from infogan_dist.diagnostics.folder_look import FolderLook
from infogan_dist.errors import UserError
from infogan_dist.evaluation.labels import class_names, open_labelled
from infogan_dist.training.loop import train
from tests.conftest import ONE_PROCESS, Command, tiny
from tests.data.tar_files import png

datasets = pytest.importorskip("datasets")
GREYS = [10, 60, 110, 160, 210, 250]
KINDS = [1, 0, 1, 0, 1, 1]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def rows(images: list[bytes | None], **columns: Any) -> Any:
    features = {"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["dark one", "light"])}
    values = {"picture": [{"bytes": image, "path": None} if image else None for image in images]}
    values |= {"kind": KINDS[: len(images)]} | columns
    features |= {name: datasets.Image() for name in columns if name != "kind"}
    return datasets.Dataset.from_dict(values, features=datasets.Features(features))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    rows([png(grey) for grey in GREYS]).save_to_disk(tmp_path / "saved")
    return tmp_path / "saved"


def config(root: Path | str, **values: object) -> DataConfig:
    return DataConfig.model_validate({"name": "huggingface", "root": str(root), "image_size": 8, **values})


def greys_of(data: DataConfig) -> list[float]:
    source = open_images(data)
    return source.read(torch.arange(len(source))).float().mean((1, 2, 3)).tolist()


def test_rows_are_images_in_order_and_their_class_labels_are_for_evaluation(saved: Path) -> None:
    assert greys_of(config(saved)) == GREYS
    assert class_names(config(saved)) == ("dark one", "light")
    labelled = open_labelled(config(saved, held_out=2), "test")
    greys = labelled.source.read(torch.arange(2)).float().mean((1, 2, 3)).tolist()
    assert labelled.labels.tolist() == [KINDS[GREYS.index(int(grey))] for grey in greys]


def test_the_train_split_and_what_load_dataset_opens(tmp_path: Path, saved: Path) -> None:
    both = datasets.DatasetDict({"test": rows([png(5)]), "train": rows([png(7), png(9)])})
    both.save_to_disk(tmp_path / "both")
    assert greys_of(config(tmp_path / "both")) == [7, 9]
    assert greys_of(config(tmp_path / "both" / "test")) == [5]
    (tmp_path / "parquet").mkdir()
    rows([png(grey) for grey in GREYS]).to_parquet(tmp_path / "parquet" / "0.parquet")
    assert greys_of(config(tmp_path / "parquet")) == GREYS


def test_broken_images_are_named_by_row_and_replaced_on_request(tmp_path: Path) -> None:
    rows([png(10), b"no image", None, png(40)]).save_to_disk(tmp_path / "broken")
    with pytest.raises(UserError, match=r"2 of 4 image files .* row 1 .*row 2 \(the row has no image\)"):
        greys_of(config(tmp_path / "broken"))
    skipping = config(tmp_path / "broken", skip_broken=True)
    assert greys_of(skipping) == [10, 40, 40, 40]
    assert open_labelled(skipping, "train").labels.tolist() == [KINDS[0], KINDS[3], KINDS[3], KINDS[3]]


def test_what_was_found_in_other_rows_is_not_used_again(tmp_path: Path) -> None:
    rows([png(10), b"no image"]).save_to_disk(tmp_path / "changes")
    assert greys_of(config(tmp_path / "changes", skip_broken=True)) == [10, 10]
    assert scan_dataset(config(tmp_path / "changes")).broken, "cached"
    rows([png(10), png(20)]).save_to_disk(tmp_path / "changes")
    assert greys_of(config(tmp_path / "changes")) == [10, 20]


def test_a_look_at_the_rows(saved: Path) -> None:
    look = FolderLook.of(config(saved))
    assert (look.shorter_side, look.coloured, look.duplicates) == (8, False, ())
    assert next(look.lines()) == f"6 image files below {saved}"


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: rows([png(1)], other=[{"bytes": png(2), "path": None}]), "2 columns of images (picture, other)"),
        (lambda: rows([png(1)]).remove_columns("picture"), "no column of images"),
        (lambda: datasets.DatasetDict({"a": rows([png(1)]), "b": rows([png(1)])}), "the splits a, b and no train"),
    ],
)
def test_data_sets_that_cannot_be_used_are_refused(tmp_path: Path, made: Any, words: str) -> None:
    made().save_to_disk(tmp_path / "refused")
    with pytest.raises(UserError) as caught:
        open_images(config(tmp_path / "refused"))
    assert words in str(caught.value)


@pytest.mark.parametrize("root", ["nobody/nothing", "/no/such/folder"])
def test_what_cannot_be_opened_is_refused_in_one_line(root: str) -> None:
    with pytest.raises(UserError, match=f"data.root = {root} cannot be opened as a data set: ") as caught:
        open_images(config(root))
    assert "\n" not in str(caught.value)


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, saved: Path) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    for look_for in (open_images, class_names):
        with pytest.raises(UserError, match=r"needs the package datasets; run pip install"):
            look_for(config(saved))


def test_data_without_class_labels_has_no_classes(tmp_path: Path) -> None:
    rows([png(1), png(2)]).remove_columns("kind").save_to_disk(tmp_path / "plain")
    rows([png(1), png(2)], kind=[0, -1]).save_to_disk(tmp_path / "partly")
    assert class_names(config(tmp_path / "plain")) == class_names(config(tmp_path / "partly")) == ()


def test_rows_are_a_sequence(saved: Path) -> None:
    found = scan_dataset(config(saved))._members
    assert isinstance(found, Rows)
    assert [str(row) for row in found[1:3]] == [str(found[1]), str(found[2])] == ["in row 1", "in row 2"]


def test_two_processes_train_the_networks_of_one(infogan: Command, tmp_path: Path, saved: Path) -> None:
    data = f"data={{name: huggingface, root: {saved}}}"
    train(tiny(tmp_path / "one", data, "train.precision=fp64"), ONE_PROCESS)
    given = [f"output={tmp_path / 'two'}", data, "train.precision=fp64"]
    written = tmp_path / "one" / "config.yaml"
    result = infogan("train", written, *given, processes=2)
    assert result.returncode == 0, result.stderr
    one, two = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    assert len(one) == len(two)
    for ours, theirs in zip(one, two, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-9)
    assert main(["evaluate", str(tmp_path / "one"), "--json", str(tmp_path / "one.json")]) == 0
    assert json.loads((tmp_path / "one.json").read_text())["split"] == "train"
