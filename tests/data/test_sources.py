from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from infogan_dist.config.model import DataConfig
from infogan_dist.data import mnist_mini, sources, stream
from infogan_dist.data.sources import ArraySource, DrawnSource, open_images
from infogan_dist.data.stream import ImageCache, ImageStream
from infogan_dist.errors import UserError
from infogan_dist.evaluation.labels import open_labelled

CPU = torch.device("cpu")


def test_mnist_mini_is_small() -> None:
    for split, count in (("train", 10_000), ("test", 2_000)):
        images, digits = mnist_mini.load(split)
        assert images.shape == (count, 28, 28)
        assert images.dtype == np.uint8
        assert digits.shape == (count,)
    assert Path(mnist_mini.__file__).with_name("mnist_mini.npz").stat().st_size < 3_000_000


def test_mnist_mini_parts_do_not_overlap() -> None:
    train, test = ({image.tobytes() for image in mnist_mini.load(split)[0]} for split in ("train", "test"))
    assert not train & test


def test_mnist_mini_can_be_rebuilt_from_mnist(full_mnist: str) -> None:
    drawn = mnist_mini.draw(full_mnist)
    for split in ("train", "test"):
        images, digits = mnist_mini.load(split)
        assert np.array_equal(drawn[f"{split}_images"], images)
        assert np.array_equal(drawn[f"{split}_labels"], digits)


def test_mnist_mini_is_drawn_without_labels(full_mnist: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, of_init = mnist_mini.draw(full_mnist), datasets.MNIST.__init__

    def without_labels(self: datasets.MNIST, root: str, train: bool) -> None:
        of_init(self, root, train)
        self.targets = torch.zeros_like(self.targets)

    monkeypatch.setattr(datasets.MNIST, "__init__", without_labels)
    blind = mnist_mini.draw(full_mnist)
    for split in ("train", "test"):
        assert np.array_equal(drawn[f"{split}_images"], blind[f"{split}_images"])
        assert not blind[f"{split}_labels"].any()
        assert len(set(np.bincount(drawn[f"{split}_labels"]).tolist())) > 1  # equal counts would need labels


def test_full_mnist_is_read_and_resized(full_mnist: str) -> None:
    source = open_images(DataConfig(name="mnist", root=full_mnist, image_size=32))
    assert len(source) == 60_000
    image = source.read(torch.tensor([0, 59_999]))
    assert image.shape == (2, 1, 32, 32)
    assert image.dtype == torch.uint8
    assert image.max() > 200


def test_missing_data_set_without_a_network_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(self: object) -> None:
        (tmp_path / "data" / "MNIST" / "raw").mkdir(parents=True)
        raise RuntimeError("Error downloading\ntrain-images")

    monkeypatch.setattr(datasets.MNIST, "download", no_network)
    with pytest.raises(UserError, match=r"data\.root = .* holds no mnist.*mnist-mini") as caught:
        open_images(DataConfig(name="mnist", root=str(tmp_path / "data")))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("error", [RuntimeError, OSError, KeyboardInterrupt])
def test_failed_download_removes_only_the_folders_it_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def no_network(self: object) -> None:
        (tmp_path / "mine" / "data" / "MNIST" / "raw").mkdir(parents=True)
        raise error

    monkeypatch.setattr(datasets.MNIST, "download", no_network)
    (tmp_path / "mine").mkdir()
    with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else UserError):
        open_images(DataConfig(name="mnist", root=str(tmp_path / "mine" / "data")))
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]


def test_failed_download_keeps_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def torn(self: object) -> None:
        raw = tmp_path / "data" / "MNIST" / "raw"
        raw.mkdir(parents=True)
        (raw / "half").touch()
        raise RuntimeError

    monkeypatch.setattr(datasets.MNIST, "download", torn)
    with pytest.raises(UserError):
        open_images(DataConfig(name="mnist", root=str(tmp_path / "data")))
    assert (tmp_path / "data" / "MNIST" / "raw" / "half").exists()


def test_folder_reads_images_of_several_formats_and_modes(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    Image.new("RGB", (50, 40), (255, 0, 0)).save(tmp_path / "a.PNG")
    Image.new("L", (20, 64), 128).save(tmp_path / "deep" / "b.jpg")
    Image.new("RGBA", (8, 8), (0, 255, 0, 255)).save(tmp_path / "c.webp", lossless=True)
    (tmp_path / "notes.txt").write_text("no image")
    source = open_images(DataConfig(name="folder", root=str(tmp_path), image_size=32, channels=3))
    images = source.read(torch.arange(len(source)))
    assert images.shape == (3, 3, 32, 32)
    assert images[0].float().mean((1, 2)).tolist() == [255, 0, 0]
    assert images[1].float().mean((1, 2)).tolist() == [0, 255, 0]
    grey = open_images(DataConfig(name="folder", root=str(tmp_path), image_size=16)).read(torch.tensor([2]))
    assert grey.shape == (1, 1, 16, 16)
    assert (grey.float() - 128).abs().max() <= 2


def test_bad_folders_and_images_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a folder"):
        open_images(DataConfig(name="folder", root=str(tmp_path / "nowhere")))
    with pytest.raises(UserError, match="holds no images"):
        open_images(DataConfig(name="folder", root=str(tmp_path)))
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    with pytest.raises(UserError, match=r"torn\.png"):
        open_images(DataConfig(name="folder", root=str(tmp_path))).read(torch.tensor([0]))


def numbered(count: int) -> ArraySource:
    return ArraySource(torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2))


def test_cache_scales_images_and_stream_visits_each_once_per_epoch() -> None:
    cache = ImageCache(numbered(7), CPU, torch.float64)
    batch = cache.read(ImageStream(len(cache), 0).at(torch.arange(16)))
    assert batch.dtype == torch.float64
    numbers = ((batch[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()
    assert sorted(numbers[:7]) == sorted(numbers[7:14]) == list(range(7))
    black_and_white = ArraySource(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1))
    assert set(ImageCache(black_and_white, CPU, torch.float32).read(torch.arange(2)).flatten().tolist()) == {-1, 1}


def test_prefetched_images_equal_resident_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    resident, order = ImageCache(numbered(50), CPU, torch.float32), ImageStream(50, 3)
    monkeypatch.setattr(stream, "RESIDENT_SHARE", 0)
    streamed = ImageCache(numbered(50), CPU, torch.float32)
    for start in (0, 20, 40, 60):
        indexes = order.at(torch.arange(start, start + 20))
        assert torch.equal(streamed.read(indexes), resident.read(indexes))
        streamed.prefetch(order.at(torch.arange(start + 20, start + 40)))


def test_a_drawn_image_is_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    def draw(indexes: torch.Tensor) -> torch.Tensor:
        drawn.extend(indexes.tolist())
        return indexes[:, None, None, None].to(torch.uint8).expand(-1, 1, 2, 2)

    source = DrawnSource(100, draw, at_once=3)
    cache = ImageCache(source, CPU, torch.float64)
    drawn.clear()
    for indexes in ([5, 90, 7, 5, 8], [7, 8, 2]):
        assert cache.read(torch.tensor(indexes)).add(1).mul(127.5)[:, 0, 0, 0].round().tolist() == indexes
    assert sorted(drawn) == [2, 5, 7, 8, 90]
    monkeypatch.setattr(sources, "RESIDENT_SHARE", 0)
    unkept = DrawnSource(100, draw, at_once=3)
    drawn.clear()
    assert unkept.read(torch.tensor([5, 5]))[:, 0, 0, 0].tolist() == [5, 5]
    assert drawn == [5, 5]


def test_held_out_images_become_the_test_part() -> None:
    whole = open_images(DataConfig())
    train, held = (open_images(DataConfig(held_out=1000), split) for split in ("train", "test"))
    assert (len(train), len(held)) == (9000, 1000)
    rows = [source.read(torch.arange(len(source))).flatten(1) for source in (train, held, whole)]
    joined = {row.numpy().tobytes() for part in rows[:2] for row in part}
    assert joined == {row.numpy().tobytes() for row in rows[2]}
    labelled = open_labelled(DataConfig(held_out=1000), "test")
    assert torch.equal(labelled.source.read(torch.arange(1000)), held.read(torch.arange(1000)))
    assert torch.bincount(labelled.labels).min() > 60
    known = {row.numpy().tobytes(): digit for row, digit in zip(*mnist_rows(), strict=True)}
    assert [known[row.numpy().tobytes()] for row in rows[1]] == labelled.labels.tolist()
    with pytest.raises(UserError, match=r"data\.held_out = 10000 leaves none of the 10000"):
        open_images(DataConfig(held_out=10_000))


def test_a_share_is_held_out_as_its_number_is() -> None:
    by_share, by_number = (open_images(DataConfig(held_out=held), "test") for held in (0.1, 1000))
    assert torch.equal(by_share.read(torch.arange(1000)), by_number.read(torch.arange(1000)))
    assert len(open_images(DataConfig(held_out=0.0))) == 10_000
    with pytest.raises(ValueError, match=r"data\.held_out = 1\.5 is not a share below 1"):
        DataConfig(held_out=1.5)


def mnist_rows() -> tuple[torch.Tensor, list[int]]:
    images, digits = mnist_mini.load("train")
    return torch.from_numpy(images).flatten(1), digits.tolist()
