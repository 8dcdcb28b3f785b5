"""Wrong input: config errors, invalid images, empty and small data sets, changed images."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from tests.faults.harness import TINY, Workspace, markers, only_message, steps_kept


def folder_of(workspace: Workspace, images: int) -> Path:
    folder = workspace.folder / "images"
    folder.mkdir()
    for number in range(images):
        Image.effect_noise((30, 30), 50.0 + number).save(folder / f"{number}.png")
    return folder


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def bomb(side: int) -> bytes:
    """A small PNG whose header announces side x side pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    nothing = zlib.compress(b"\0" * 2**16)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", nothing) + chunk(b"IEND", b"")


@pytest.mark.parametrize("processes", [1, 2])
def test_config_error_creates_no_files(workspace: Workspace, processes: int) -> None:
    ranks = workspace.train("run", "train.stepz=9", processes=processes)
    assert [rank.exit_code() for rank in ranks] == [2] * processes
    only_message(ranks[0].err, "unknown config key train.stepz", "did you mean train.steps?")
    assert not (workspace.folder / "run").exists()


def test_empty_image_folder_is_refused(workspace: Workspace) -> None:
    folder_of(workspace, 0)
    (only,) = workspace.train("run", "data={name: folder, root: images}")
    assert only.exit_code() == 2
    only_message(only.err, "data.root = images holds no images")
    assert not (workspace.folder / "run").exists()


@pytest.mark.parametrize("images", [1, 5])
def test_data_set_smaller_than_a_batch_trains(workspace: Workspace, images: int) -> None:
    folder_of(workspace, images)
    (only,) = workspace.train("run", "data={name: folder, root: images}", "train.steps=2")
    assert only.exit_code() == 0, only.err
    assert markers(workspace.folder / "run") == ["DONE"]


@pytest.mark.parametrize(
    ("name", "words"),
    [("truncated", "truncated"), ("no image", "none of PNG"), ("a bomb", "pixels"), ("a smaller bomb", "pixels")],
)
def test_invalid_image_is_refused_by_name(workspace: Workspace, name: str, words: str) -> None:
    folder = folder_of(workspace, 3)
    valid = (folder / "1.png").read_bytes()
    files = {"truncated": valid[: len(valid) // 2], "no image": b"\x80\x04}.", "a bomb": bomb(60_000)}
    (folder / "1.png").write_bytes((files | {"a smaller bomb": bomb(10_000)})[name])
    (only,) = workspace.train("run", "data={name: folder, root: images}", faults="no-pickle")
    assert only.exit_code() == 2
    only_message(only.err, "1 of 3 image files below images cannot be decoded: 1.png (", words, "repair or remove them")
    assert not (workspace.folder / "run").exists()


def test_image_that_becomes_unreadable_is_named_by_its_rank(workspace: Workspace) -> None:
    folder_of(workspace, 24)
    faults = "streamed,rot@2"  # read image by image, like a data set larger than memory
    ranks = workspace.train("run", "data={name: folder, root: images}", "sample.every=0", faults=faults, processes=2)
    assert {rank.exit_code() for rank in ranks} <= {1, 2}
    assert any("image files below images cannot be decoded: " in line for rank in ranks for line in rank.messages())


@pytest.mark.parametrize("processes", [1, 2])
def test_run_resumes_with_the_same_images_and_refuses_others(workspace: Workspace, processes: int) -> None:
    folder = folder_of(workspace, 6)
    of_folder = "data={name: folder, root: images}"
    for rank in workspace.train("run", of_folder, "train.steps=2", processes=processes):
        assert rank.exit_code() == 0, rank.err
    before = contents(workspace.folder / "run")

    def refused(reason: str) -> None:
        ranks = workspace.train("run", of_folder, "train.steps=4", processes=processes)
        assert [rank.exit_code() for rank in ranks] == [2] * processes
        only_message(ranks[0].err, "run/checkpoints/step-00000002 was trained on other images of folder", reason)
        assert contents(workspace.folder / "run") == before

    extra = folder / "extra.png"
    Image.effect_noise((30, 30), 9.0).save(extra)
    refused("6 images then, 7 now")
    extra.unlink()
    kept = (folder / "3.png").read_bytes()
    Image.new("L", (30, 30), 255).save(folder / "3.png")
    refused("1 of 6 sampled images differ")
    (same,) = workspace.train("run", of_folder, "train.steps=2")  # the run is done
    assert same.exit_code() == 0, same.err
    assert contents(workspace.folder / "run") == before
    (folder / "3.png").write_bytes(kept)
    folder.rename(workspace.folder / "moved")
    for rank in workspace.train("run", "data={name: folder, root: moved}", "train.steps=4", processes=3 - processes):
        assert rank.exit_code() == 0, rank.err
    assert steps_kept(workspace.folder / "run")[-1] == 4


def test_run_on_the_old_mnist_mini_is_refused(workspace: Workspace) -> None:
    (first,) = workspace.train("run", "train.steps=2")
    assert first.exit_code() == 0, first.err
    manifest = workspace.folder / "run" / "checkpoints" / "step-00000002" / "manifest.json"
    earlier = ("schema", "step", "images_seen", "config", "scaler", "nonfinite", "versions", "files")
    found = json.loads(manifest.read_text())
    assert found["data"]["images"] == 10_000
    manifest.write_text(json.dumps({key: found[key] for key in earlier}))
    before = contents(workspace.folder / "run")
    (only,) = workspace.train("run", "train.steps=4")
    assert only.exit_code() == 2
    words = ("other images of mnist-mini", "1,000 train images of each digit then, drawn without labels now")
    only_message(only.err, *words, "choose another output to train on the new images")
    (examined,) = workspace.start("doctor", *TINY, "output=run", "train.steps=4")
    assert examined.exit_code() == 2
    assert "problem output: run/checkpoints/step-00000002 was trained on other images" in examined.out
    assert contents(workspace.folder / "run") == before
    (new,) = workspace.train("another", "train.steps=4")
    assert new.exit_code() == 0, new.err


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
