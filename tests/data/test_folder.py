"""A folder of image files as a data set: how they become square, and broken ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

from infogan_dist.config.model import DataConfig
from infogan_dist.data.file_index import FileIndex
from infogan_dist.data.folder import FolderSource, fitted, shown
from infogan_dist.data.sources import open_images
from infogan_dist.errors import UserError

GREYS = [10, 60, 110, 160, 210]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five grey images, of which those at 1 and 4 are broken."""
    for number, grey in enumerate(GREYS):
        Image.new("L", (8, 8), grey).save(tmp_path / f"{number}.png")
    for number in (1, 4):
        content = (tmp_path / f"{number}.png").read_bytes()
        (tmp_path / f"{number}.png").write_bytes(content[: len(content) // 2])
    return tmp_path


def config(root: Path, **values: object) -> DataConfig:
    return DataConfig.model_validate({"name": "folder", "root": str(root), "image_size": 8, **values})


@pytest.mark.parametrize(
    ("fit", "expected"),
    [("crop", [50, 50, 50, 50]), ("pad", [200, 50, 50, 200]), ("stretch", [0, 50, 50, 100])],
)
def test_fit_crops_pads_or_stretches(tmp_path: Path, fit: str, expected: list[int]) -> None:
    wide = Image.new("L", (32, 16), 50)
    wide.paste(0, (0, 0, 8, 16))
    wide.paste(100, (24, 0, 32, 16))
    if fit == "pad":
        wide = Image.new("L", (16, 32), 50)
    row = pil_to_tensor(fitted(wide, config(tmp_path, fit=fit, background="#c8c8c8")))[0, 4]
    assert row[[0, 3, 4, 7]].tolist() == pytest.approx(expected, abs=3)  # bicubic


def test_the_first_broken_file_names_all(folder: Path) -> None:
    source = open_images(config(folder))
    assert source.read(torch.tensor([0, 2])).float().mean((1, 2, 3)).tolist() == [10, 110]
    with pytest.raises(UserError, match=r"2 of 5 image files .*: 1\.png \(.*\), 4\.png \(.*data\.skip_broken=true"):
        source.read(torch.tensor([1]))
    with pytest.raises(UserError, match="2 of 5 image files"):  # known from the cache
        open_images(config(folder))


def test_a_broken_file_is_replaced_by_the_next_one(folder: Path) -> None:
    source = open_images(config(folder, skip_broken=True))
    means = source.read(torch.arange(5)).float().mean((1, 2, 3)).tolist()
    assert means == [10, 110, 110, 160, 10]
    assert shown({1, 4}, 5).tolist() == [0, 2, 2, 3, 0]
    again = open_images(config(folder, skip_broken=True))
    assert again.read(torch.arange(5)).float().mean((1, 2, 3)).tolist() == means


def test_a_folder_of_broken_files_is_refused(folder: Path) -> None:
    for number in (0, 2, 3):
        (folder / f"{number}.png").unlink()
    source = FolderSource(FileIndex.scan(folder), config(folder, skip_broken=True))
    with pytest.raises(UserError, match="none of the 2 image files"):
        source.read(torch.tensor([0]))
