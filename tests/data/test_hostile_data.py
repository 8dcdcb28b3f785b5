"""Files with misleading names are refused in one line. Nothing is run or downloaded."""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path

import pytest
import torch
from PIL import EpsImagePlugin, Image
from torchvision import datasets

from infogan_dist.config.model import DataConfig
from infogan_dist.data.sources import open_images
from infogan_dist.diagnostics import preflight
from infogan_dist.errors import UserError
from infogan_dist.evaluation.labels import open_labelled

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"


def test_postscript_file_named_as_an_image_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *arguments, **options: ran.append(arguments))
    (tmp_path / "a.png").write_bytes(POSTSCRIPT)
    with pytest.raises(UserError, match=r"1 of 1 image files .* a\.png \(it is none of PNG,") as caught:
        open_images(DataConfig(name="folder", root=str(tmp_path))).read(torch.tensor([0]))
    assert ran == []
    assert "\n" not in str(caught.value)


def test_formats_without_a_supported_ending_are_not_decoded(tmp_path: Path) -> None:
    for number, kind in enumerate(("PPM", "TGA", "ICO", "PCX", "SGI")):
        Image.new("L", (16, 16)).save(tmp_path / f"{number}.png", format=kind)
    source = open_images(DataConfig(name="folder", root=str(tmp_path)))
    for number in range(len(source)):
        with pytest.raises(UserError, match="5 of 5 image files"):
            source.read(torch.tensor([number]))


def idx(*shape: int, kind: int = 8, content: bytes | None = None) -> bytes:
    """A file of MNIST's format."""
    sizes = b"".join(struct.pack(">I", size) for size in shape)
    return (
        struct.pack(">I", kind * 256 + len(shape)) + sizes + (bytes(math.prod(shape)) if content is None else content)
    )


VALID = {
    "train-images-idx3-ubyte": idx(3, 28, 28),
    "train-labels-idx1-ubyte": idx(3),
    "t10k-images-idx3-ubyte": idx(2, 28, 28),
    "t10k-labels-idx1-ubyte": idx(2),
}
BROKEN_IMAGES = {
    "empty": b"",
    "torn in its header": idx(3, 28, 28)[:6],
    "without images": idx(0, 28, 28, content=b""),
    "of images without pixels": idx(3, 0, 28, content=b""),
    "torn in its content": idx(3, 28, 28)[:-1],
    "larger than any memory": idx(2**31, 2**31, 2**31, content=b"\0"),
    "of floats": idx(3, 28, 28, kind=13, content=bytes(4 * 3 * 28 * 28)),
    "of one dimension": idx(28),
    "of an unknown kind": idx(3, 28, 28, kind=3),
    "of text": b"<html>not found</html>",
}


def mnist_folder(root: Path, **changed: bytes) -> DataConfig:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in {**VALID, **{key.replace("_", "-"): value for key, value in changed.items()}}.items():
        (raw / name).write_bytes(content)
    return DataConfig(name="mnist", root=str(root))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(self: datasets.MNIST) -> None:
        raise AssertionError("files that are there are not downloaded")

    monkeypatch.setattr(datasets.MNIST, "download", download)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("broken", BROKEN_IMAGES)
def test_broken_mnist_image_file_is_named_in_one_line(tmp_path: Path, broken: str) -> None:
    data = mnist_folder(tmp_path, train_images_idx3_ubyte=BROKEN_IMAGES[broken])
    for read in (open_images, preflight._open):
        with pytest.raises(UserError, match="holds a file that is not of mnist") as caught:
            read(data)
        assert str(caught.value).isprintable()


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("labels", [b"", idx(2), idx(3, content=b"\0\1\n")], ids=["empty", "too few", "not a digit"])
def test_broken_mnist_label_file_is_named_in_one_line(tmp_path: Path, labels: bytes) -> None:
    data = mnist_folder(tmp_path, train_labels_idx1_ubyte=labels)
    with pytest.raises(UserError, match=r"labels of mnist do not fit|not of mnist") as caught:
        open_labelled(data, "train")
    assert str(caught.value).isprintable()


@pytest.mark.usefixtures("offline")
def test_valid_mnist_files_are_read_and_special_files_are_refused(tmp_path: Path) -> None:
    data = mnist_folder(tmp_path)
    assert len(open_images(data)) == 3
    assert open_labelled(data, "test").labels.tolist() == [0, 0]
    file = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        file.unlink()
        make(file)
        with pytest.raises(UserError, match="not a regular file"):
            open_images(data)
