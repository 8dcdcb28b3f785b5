from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from infogan_dist.errors import UserError
from infogan_dist.sampling.captions import tiled
from infogan_dist.sampling.outputs import check_file, check_out, save_picture, write_array, write_folder


def test_an_array_is_nhwc_whatever_the_case_of_its_ending(tmp_path: Path) -> None:
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    write_array(images, tmp_path / "a.NPZ")
    assert [path.name for path in tmp_path.iterdir()] == ["a.NPZ"]
    assert np.array_equal(np.load(tmp_path / "a.NPZ")["images"], images.permute(0, 2, 3, 1).numpy())


def test_a_folder_holds_the_bare_images_under_their_names(tmp_path: Path) -> None:
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    write_folder(images, tmp_path / "folder", ["seed0003", "seed0012"])
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == ["seed0003.png", "seed0012.png"]
    read = np.asarray(Image.open(tmp_path / "folder" / "seed0012.png"))
    assert np.array_equal(read, images[1].permute(1, 2, 0).numpy())
    write_folder(images, tmp_path / "large", ["a", "b"], scale=3)
    assert Image.open(tmp_path / "large" / "a.png").size == (24, 24)


@pytest.mark.parametrize(
    ("name", "kind"), [("a.PNG", "PNG"), ("a.jpg", "JPEG"), ("a.JPEG", "JPEG"), ("a.webp", "WEBP")]
)
def test_a_picture_has_the_format_of_its_ending(tmp_path: Path, name: str, kind: str) -> None:
    check_out(tmp_path / name)
    save_picture(tiled(torch.full((4, 1, 8, 8), 80, dtype=torch.uint8), 2), tmp_path / name)
    with Image.open(tmp_path / name) as picture:
        assert picture.format == kind
        assert picture.size == (16, 16)
        assert abs(np.asarray(picture.convert("L"))[6, 6].item() - 80) < 8
    assert list(tmp_path.iterdir()) == [tmp_path / name]


def test_a_picture_too_large_for_its_format_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="16400 x 2 pixels"):
        save_picture(tiled(torch.zeros(8200, 1, 2, 2, dtype=torch.uint8), 8200), tmp_path / "wide.webp")
    assert list(tmp_path.iterdir()) == []


def test_a_file_has_one_of_its_endings(tmp_path: Path) -> None:
    check_file(tmp_path / "a.CSV", (".csv",))
    with pytest.raises(UserError, match=r"--sheet .*a\.csv does not end in \.png or \.jpg"):
        check_file(tmp_path / "a.csv", (".png", ".jpg"), "--sheet")


def a_run(folder: Path) -> Path:
    """What tells a run folder with a checkpoint from others."""
    checkpoint = folder / "checkpoints" / "step-00000002"
    checkpoint.mkdir(parents=True)
    for file in (folder / "config.yaml", checkpoint / "manifest.json", checkpoint / "G.safetensors"):
        file.touch()
    return checkpoint


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("x.gif", r"ends in \.gif.*\.png, \.jpg, \.jpeg, \.webp.*\.npz"),
        ("v1.5", r"ends in \.5"),
        ("run", "into the run"),
        ("run/sevens", "into the run"),
        ("run/samples/deep/er", "into the run"),
        ("link", "into the run"),
        ("link/sevens", "into the run"),
        ("run/checkpoints/step-00000002", "into the run"),
        ("run/checkpoints/step-00000002/grid.png", "is inside the checkpoint"),
        ("run/checkpoints/step-00000002/a.npz", "is inside the checkpoint"),
        ("copied/sevens", "into the run"),
        ("new", "into the run"),
        ("full", "not empty"),
        ("file", "not a folder"),
        ("folder.png", "is a folder"),
    ],
)
def test_where_images_cannot_go_is_refused(tmp_path: Path, out: str, words: str) -> None:
    checkpoint = a_run(tmp_path / "run")
    (tmp_path / "link").symlink_to(tmp_path / "run")
    shutil.copytree(checkpoint, tmp_path / "copied")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "config.yaml").touch()
    (tmp_path / "new" / ".lock").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "00000.png").touch()
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=words):
        check_out(tmp_path / out)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("out", ["a", "deep/a", "empty", "empty.v2", "run/grid.png", "beside"])
def test_where_images_can_go(tmp_path: Path, out: str) -> None:
    a_run(tmp_path / "run")
    for name in ("empty", "empty.v2"):
        (tmp_path / name).mkdir()
    (tmp_path / "config.yaml").touch()  # of no run
    (tmp_path / "manifest.json").touch()  # of no checkpoint
    check_out(tmp_path / out)
