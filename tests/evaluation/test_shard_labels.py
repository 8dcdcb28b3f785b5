"""Labels of shards are read from KEY.cls, by evaluation only."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infogan_dist.__main__ import main
from infogan_dist.config.model import DataConfig
from infogan_dist.data.archives import Member
from infogan_dist.errors import UserError
from infogan_dist.evaluation.labels import class_names, open_labelled
from infogan_dist.evaluation.shard_labels import classes_of, labels_of
from infogan_dist.training.loop import train
from tests.conftest import ONE_PROCESS, tiny
from tests.data.tar_files import png, write_tar

LABELS = [7, 3, 7, 3, 12, 7, 3, 12]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write(root: Path, labels: list[bytes | None]) -> DataConfig:
    """Images in two shards; the keys begin again in the second."""
    for shard, first in (("a.tar", 0), ("b.tar", 3)):
        part = list(enumerate(labels))[first : 3 if shard == "a.tar" else None]
        members = []
        for number, label in part:
            members += [(f"d/{number - first}.cls", label)] if label is not None else []
            members.append((f"d/{number - first}.png", png(20 * number)))
        write_tar(root / shard, members)
    return DataConfig(name="shards", root=str(root))


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    return write(tmp_path / "shards", [b"%d\n" % label for label in LABELS])


def test_classes_are_the_labels_that_occur(data: DataConfig) -> None:
    assert classes_of(data) == class_names(data) == ("3", "7", "12")
    assert labels_of(data, "train").tolist() == [1, 0, 1, 0, 2, 1, 0, 2]
    held = open_labelled(data.model_copy(update={"held_out": 2}), "test")
    greys = held.source.read(held.labels.new_tensor([0, 1])).float().mean((1, 2, 3)) / 20
    assert [("3", "7", "12")[label] for label in held.labels.tolist()] == [
        str(LABELS[int(each)]) for each in greys.round()
    ]


def test_a_missing_or_single_label_gives_none(tmp_path: Path) -> None:
    assert classes_of(write(tmp_path / "missing", [b"1", b"2", None, b"1"])) == ()
    assert classes_of(write(tmp_path / "single", [b"1", b"1", b"1", b"1"])) == ()


@pytest.mark.parametrize("label", [b"cat", b"", b"1" * 40])
def test_a_label_that_is_no_integer_is_named(tmp_path: Path, label: bytes) -> None:
    with pytest.raises(UserError, match=r"the label .*a\.tar/d/1\.cls is not an integer"):
        classes_of(write(tmp_path / "bad", [b"1", label, b"2"]))


def test_a_broken_image_has_the_label_of_its_replacement(tmp_path: Path) -> None:
    members = [
        ("0.png", png(1)),
        ("0.cls", b"0"),
        ("1.png", b"text"),
        ("1.cls", b"0"),
        ("2.png", png(2)),
        ("2.cls", b"1"),
    ]
    path = write_tar(tmp_path / "a.tar", members)
    assert labels_of(DataConfig(name="shards", root=str(path), skip_broken=True), "train").tolist() == [0, 1, 1]


def test_training_reads_no_label_and_evaluation_scores_the_classes(
    data: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, real = [], Member.open
    monkeypatch.setattr(Member, "open", lambda member: opened.append(member.ending) or real(member))
    given = f"data={{name: shards, root: {data.root}, held_out: 0.25}}"
    train(tiny(tmp_path / "run", given, "latents.categorical=[3]", "train.precision=fp32"), ONE_PROCESS)
    assert set(opened) == {".png"}
    assert main(["evaluate", str(tmp_path / "run"), "--json", str(tmp_path / "a.json")]) == 0
    assert ".cls" in opened
    metrics = json.loads((tmp_path / "a.json").read_text())
    assert 0 <= metrics["code_error"] <= 1
    assert "failed" not in metrics
