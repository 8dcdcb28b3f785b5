"""SVHN, CIFAR-10 and CelebA, from stand-in files in torchvision's layouts. Only the checksums of the stand-ins are replaced."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchvision import datasets

from infogan_dist.config.model import DataConfig
from infogan_dist.data.sources import open_images
from infogan_dist.diagnostics import preflight
from infogan_dist.errors import UserError
from infogan_dist.evaluation.labels import open_labelled
from tests.data.stand_ins import COUNTS, WRITERS

FIRST_FILE = {
    "svhn": "train_32x32.mat",
    "cifar10": "cifar-10-batches-py/data_batch_1",
    "celeba": "celeba/list_attr_celeba.txt",
}


@pytest.fixture(params=WRITERS)
def stand_in(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataConfig:
    root = tmp_path / "data"
    root.mkdir()
    for patch in WRITERS[request.param](root):
        monkeypatch.setattr(*patch)
    return DataConfig(name=request.param, root=str(root), image_size=32, channels=3)


def test_images_have_their_order_and_colours(stand_in: DataConfig) -> None:
    for split, count in COUNTS.items():
        source = open_images(stand_in, split)
        assert len(source) == count
        images = source.read(torch.tensor([count - 1, 0, 7]))
        assert images.shape == (3, 3, 32, 32)
        assert images.dtype == torch.uint8
        if stand_in.name == "celeba":
            first = 0 if split == "train" else COUNTS["train"]
            expected = [[4 * (first + number), 255 - 4 * (first + number), 128] for number in (count - 1, 0, 7)]
            assert (images[:, :, 16, 16].long() - torch.tensor(expected)).abs().max() <= 3  # JPEG
        else:
            assert images[:, :, 0, 1].tolist() == [[number, 1, 2] for number in (count - 1, 0, 7)]
    assert open_images(stand_in.model_copy(update={"image_size": 16})).read(torch.tensor([3])).shape == (1, 3, 16, 16)


def test_evaluation_reads_the_labels(stand_in: DataConfig) -> None:
    if stand_in.name == "celeba":
        with pytest.raises(UserError, match="celeba has no labels"):
            open_labelled(stand_in, "test")
    else:
        assert open_labelled(stand_in, "test").labels.tolist() == [*range(10), *range(10)]


def test_a_file_with_another_checksum_is_named_and_not_read(stand_in: DataConfig) -> None:
    path = Path(str(stand_in.root), FIRST_FILE[stand_in.name])
    path.write_bytes(path.read_bytes() + b" ")
    for read in (open_images, preflight._open):
        with pytest.raises(UserError, match=rf"MD5 checksum of {path.name} .*remove it, and") as caught:
            read(stand_in)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", WRITERS)
def test_missing_files_are_refused_in_one_line_with_what_to_put_there(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(self: object) -> None:
        raise RuntimeError("no\nnetwork")

    for dataset in (datasets.SVHN, datasets.CIFAR10, datasets.CelebA):
        monkeypatch.setattr(dataset, "download", no_network)
    needed = {"svhn": "train_32x32.mat", "cifar10": "cifar-10-batches-py", "celeba": r"unpacked img_align_celeba\.zip"}
    data = DataConfig(name=name, root=str(tmp_path / "data"), image_size=32, channels=3)
    with pytest.raises(
        UserError, match=rf"holds no {name}, and .*set data\.root to .*{needed[name]}.*scenes"
    ) as caught:
        open_images(data)
    assert str(caught.value).isprintable()
    assert not (tmp_path / "data").exists()


def test_doctor_distinguishes_what_train_can_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "_answers", lambda urls: bool(urls))
    cifar, celeba = (
        DataConfig(name=name, root=str(tmp_path), image_size=32, channels=3) for name in ("cifar10", "celeba")
    )
    with pytest.raises(preflight.NotDownloaded):
        preflight._open(cifar)
    with pytest.raises(UserError, match="torchvision does not download it") as caught:
        preflight._open(celeba)
    assert not isinstance(caught.value, preflight.NotDownloaded)
