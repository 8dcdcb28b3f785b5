"""The first look at a folder of images, and the config that follows from it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from infogan_dist.config import yaml_core
from infogan_dist.config.model import DataConfig
from infogan_dist.config.reading import parse_config
from infogan_dist.config.schema import Config
from infogan_dist.data import mnist_mini
from infogan_dist.diagnostics.first_config import Choices, first_config, run_name
from infogan_dist.diagnostics.folder_look import FolderLook
from infogan_dist.errors import UserError


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Three subfolders of colour images of two modes, one of them a copy, and a broken file."""
    root = tmp_path / 'My "Photos"'
    for number, colour in enumerate(["red", "green", "blue"]):
        folder = root / f"Kind {number}"
        folder.mkdir(parents=True)
        Image.new("RGB", (100 + number, 80), colour).save(folder / "a.png")
        Image.new("RGBA", (20, 300), colour).save(folder / "b.png")
    (root / "Kind 2" / "copy.png").write_bytes((root / "Kind 2" / "a.png").read_bytes())
    (root / "Kind 1" / "broken one.jpg").write_bytes(b"no image")
    return root


def look_at(root: Path) -> FolderLook:
    return FolderLook.of(DataConfig(name="folder", root=str(root)))


def config_for(root: Path, classes: int | None = None, on_gpu: bool = False) -> Config:
    choices = Choices.of(look_at(root), str(root), classes, on_gpu)
    text = first_config(choices, str(root), "mine", "infogan-dist init")
    return parse_config(yaml_core.load(text, "mine.yaml"))


def test_a_look_names_sizes_modes_copies_and_broken_files(photographs: Path) -> None:
    look = look_at(photographs)
    said = "\n".join(look.lines())
    assert "8 image files below" in said
    assert "3 subfolders: Kind 0 2, Kind 1 3, Kind 2 3" in said
    assert "20 to 102 pixels wide, 80 to 300 high, median shorter side 80; 100% coloured; modes RGB 4, RGBA 3" in said
    broken, copies, small = look.warnings(image_size=32)
    assert "1 of 8 image files" in broken
    assert "Kind 1/broken one.jpg (it is none of PNG" in broken
    assert copies == "1 of the files are copies of another: Kind 2/a.png = Kind 2/copy.png"
    assert small == "3 images have a side below data.image_size = 32 and are enlarged"
    assert look.read(DataConfig(name="folder", root=str(photographs), image_size=16, channels=3)).shape == (
        7,
        3,
        16,
        16,
    )


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no images"):
        look_at(tmp_path)
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"none of the 1 image files .* a\.png"):
        look_at(tmp_path)


def test_the_config_for_photographs(photographs: Path) -> None:
    config = config_for(photographs)
    assert (config.data.root, config.data.channels, config.data.image_size) == (str(photographs), 3, 32)
    assert (config.networks.family, config.augmentation.preset, config.latents.categorical) == (
        "dcgan",
        "objects",
        (3,),
    )
    assert config.data.skip_broken
    assert config.augmentation.outside == "border"
    assert config_for(photographs, on_gpu=True).data.image_size == 64
    assert config_for(photographs, classes=7).latents.categorical == (7,)


def test_the_config_for_light_ink_on_black(tmp_path: Path) -> None:
    root = tmp_path / "digits"
    root.mkdir()
    for number, digit in enumerate(mnist_mini.load("test")[0][:30]):
        Image.fromarray(digit).save(root / f"{number}.png")
    config = config_for(root)
    assert (config.data.channels, config.data.image_size, config.data.skip_broken) == (1, 28, False)
    assert (config.networks.family, config.augmentation.preset, config.latents.categorical) == (
        "paper28",
        "digits",
        (10,),
    )
    for path in root.iterdir():
        with Image.open(path) as image:
            image.point(lambda value: 255 - value).save(path)
    assert config_for(root).augmentation.preset == "objects"  # dark ink on white


@pytest.mark.parametrize(
    ("folder", "name"), [("My Pictures (2024)", "my-pictures-2024"), ("Ü", "images"), ("a" * 300, "a" * 64)]
)
def test_a_run_has_the_name_of_the_folder(folder: str, name: str) -> None:
    assert run_name(Path(folder)) == name
