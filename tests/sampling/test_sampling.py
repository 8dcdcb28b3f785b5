from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from infogan_dist.config.model import NoiseConfig
from infogan_dist.errors import UserError
from infogan_dist.latents import LatentSpec
from infogan_dist.sampling.grids import check_out, fixed_grids, to_uint8, write_grid, write_images

NOISE = (NoiseConfig(dim=5),)


def test_a_row_per_class_with_the_same_z_down_each_column() -> None:
    grids = fixed_grids(LatentSpec(NOISE, (10, 3), 2), seed=0)
    assert list(grids) == ["", "continuous_0", "continuous_1"]
    grid = grids[""]
    z = grid.latents.noise.view(10, 10, 5)
    assert torch.equal(z, z[:1].expand_as(z))
    assert len(z[0].unique(dim=0)) == 10
    codes = grid.latents.codes
    assert torch.equal(codes.categorical[:, 0].view(10, 10), torch.arange(10)[:, None].expand(10, 10))
    assert not codes.categorical[:, 1].any()
    assert not codes.continuous.any()


def test_a_continuous_code_sweeps_across_with_z_held() -> None:
    grid = fixed_grids(LatentSpec(NOISE, (4,), 2), seed=0)["continuous_1"]
    levels = grid.latents.codes.continuous.view(4, 10, 2)
    assert torch.equal(levels[..., 1], torch.linspace(-1, 1, 10).expand(4, 10))
    assert not levels[..., 0].any()
    z = grid.latents.noise.view(4, 10, 5)
    assert torch.equal(z, z[:, :1].expand_as(z))
    assert len(z[:, 0].unique(dim=0)) == 4


def test_without_a_class_rows_are_fresh_z() -> None:
    grids = fixed_grids(LatentSpec(NOISE, (), 0), seed=0)
    assert list(grids) == [""]
    assert len(grids[""].latents.noise.unique(dim=0)) == 100


def test_pixels_are_rounded_and_clamped() -> None:
    assert to_uint8(torch.tensor([-1.0, 0.0, 1.0, -1.5, 2.0])).tolist() == [0, 128, 255, 0, 255]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_lies_row_by_row(tmp_path: Path, channels: int) -> None:
    images = torch.arange(6, dtype=torch.uint8).mul(40)[:, None, None, None].expand(6, channels, 4, 4)
    write_grid(images, 3, tmp_path / "grid.png")
    picture = np.asarray(Image.open(tmp_path / "grid.png"))
    assert picture.shape[:2] == (2 * 6 + 2, 3 * 6 + 2)
    assert picture.ndim == (2 if channels == 1 else 3)
    firsts = picture[3::6, 3::6] if channels == 1 else picture[3::6, 3::6, 0]
    assert firsts.tolist() == [[0, 40, 80], [120, 160, 200]]


def test_each_ending_has_its_format(tmp_path: Path) -> None:
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    write_images(images, tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").size == (3 * 10 + 2, 2 * 10 + 2)
    write_images(images, tmp_path / "a.npz")
    assert np.array_equal(np.load(tmp_path / "a.npz")["images"], images.permute(0, 2, 3, 1).numpy())
    write_images(images, tmp_path / "folder")
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == [f"0000{i}.png" for i in range(5)]
    read = np.asarray(Image.open(tmp_path / "folder" / "00003.png"))
    assert np.array_equal(read, images[3].permute(1, 2, 0).numpy())


@pytest.mark.parametrize(
    ("name", "kind"), [("a.PNG", "PNG"), ("a.jpg", "JPEG"), ("a.JPEG", "JPEG"), ("a.webp", "WEBP")]
)
def test_a_grid_has_the_format_of_its_ending(tmp_path: Path, name: str, kind: str) -> None:
    images = torch.full((4, 1, 8, 8), 80, dtype=torch.uint8)
    check_out(tmp_path / name)
    write_images(images, tmp_path / name)
    with Image.open(tmp_path / name) as picture:
        assert picture.format == kind
        assert picture.size == (22, 22)
        assert abs(np.asarray(picture.convert("L"))[6, 6].item() - 80) < 8
    assert list(tmp_path.iterdir()) == [tmp_path / name]


def test_an_array_may_have_an_ending_in_capitals(tmp_path: Path) -> None:
    write_images(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), tmp_path / "a.NPZ")
    assert [path.name for path in tmp_path.iterdir()] == ["a.NPZ"]
    assert np.load(tmp_path / "a.NPZ")["images"].shape == (2, 4, 4, 1)


def test_a_picture_too_large_for_its_format_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="16402 x 6 pixels"):
        write_grid(torch.zeros(4100, 1, 2, 2, dtype=torch.uint8), 4100, tmp_path / "wide.webp")
    assert list(tmp_path.iterdir()) == []


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
        ("run/checkpoints/step-00000002/grid.png", "lies in the checkpoint"),
        ("run/checkpoints/step-00000002/a.npz", "lies in the checkpoint"),
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


def test_names_stand_beside_the_rows_of_a_grid(tmp_path: Path) -> None:
    images = torch.full((6, 1, 12, 12), 128, dtype=torch.uint8)
    write_grid(images, 3, tmp_path / "plain.png")
    write_grid(images, 3, tmp_path / "named.png", ["7", "7", "7", "1", "2", "3"])
    plain, named = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in ("plain", "named"))
    margin = named.shape[1] - plain.shape[1]
    assert np.array_equal(named[:, margin:], plain)
    inked = [(row < 255).sum() for row in np.split(named[2:, :margin], 2)]
    assert 0 < inked[0] < inked[1]  # one name for the first row, three for the second
