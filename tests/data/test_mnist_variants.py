from __future__ import annotations

from pathlib import Path

import pytest
import torch

from infogan_dist.config.model import DataConfig
from infogan_dist.data import mnist_mini
from infogan_dist.data.mnist_variants import STACKED_COUNT, imbalanced_indexes, stacked_indexes
from infogan_dist.data.sources import open_images
from infogan_dist.diagnostics import preflight
from infogan_dist.errors import UserError
from infogan_dist.evaluation.labels import known_factors, open_labelled

IMBALANCED = DataConfig(name="imbalanced-mnist")
STACKED = DataConfig(name="stacked-mnist", channels=3)


@pytest.mark.parametrize("split", ["train", "test"])
def test_each_channel_of_a_stacked_image_is_a_digit(split: str) -> None:
    source, digits = open_images(STACKED, split), torch.from_numpy(mnist_mini.load(split)[0])
    assert len(source) == STACKED_COUNT[split]
    rows = torch.tensor([len(source) - 1, 0, 7])
    images = source.read(rows)
    assert (images.shape, images.dtype) == ((3, 3, 28, 28), torch.uint8)
    assert torch.equal(images, digits[stacked_indexes(split, len(digits))[rows]])
    assert open_images(STACKED.model_copy(update={"image_size": 32}), split).read(rows).shape == (3, 3, 32, 32)


def test_the_digits_of_an_image_are_uniform_and_independent() -> None:
    chosen = stacked_indexes("train", 10)
    triples = (chosen * torch.tensor([100, 10, 1])).sum(1).bincount(minlength=1000)
    chi_square = ((triples - 128) ** 2 / 128).sum()
    assert abs(chi_square - 999) < 5 * (2 * 999) ** 0.5
    assert not torch.equal(chosen[:100], stacked_indexes("test", 10)[:100])


def test_evaluation_knows_the_digit_of_each_channel() -> None:
    known = known_factors(STACKED, "test", torch.tensor([3, 25_999]))
    assert known is not None
    assert known.names == ("red_digit", "green_digit", "blue_digit")
    labels = torch.from_numpy(mnist_mini.load("test")[1])
    assert known.variables.values.tolist() == labels[stacked_indexes("test", 2000)[[3, 25_999]]].tolist()


def test_held_out_stacked_images_are_not_trained_on() -> None:
    held = STACKED.model_copy(update={"held_out": 1000})
    assert [len(open_images(held, split)) for split in ("train", "test")] == [127_000, 1000]


def test_full_mnist_is_stacked_from_data_root(full_mnist: str) -> None:
    data = STACKED.model_copy(update={"root": full_mnist})
    images = open_images(data).read(torch.tensor([5]))
    digits = open_images(DataConfig(name="mnist", root=full_mnist)).read(stacked_indexes("train", 60_000)[5])
    assert torch.equal(images[0], digits[:, 0])


def test_a_root_without_mnist_is_named_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "_answers", lambda urls: False)
    with pytest.raises(UserError, match=r"holds no mnist, and its server does not answer; .*MNIST/raw"):
        preflight._open(STACKED.model_copy(update={"root": str(tmp_path)}))


def test_training_reads_the_imbalanced_images_by_index_without_labels() -> None:
    indexes = imbalanced_indexes(IMBALANCED, 10_000)
    assert torch.equal(indexes, indexes.unique())
    images = open_images(IMBALANCED).read(torch.tensor([0, len(indexes) - 1]))
    digits = torch.from_numpy(mnist_mini.load("train")[0])
    assert torch.equal(images[:, 0], digits[indexes[[0, -1]]])


def test_the_imbalanced_test_digits_are_all_test_digits() -> None:
    test, plain = (open_labelled(DataConfig(name=name), "test") for name in ("imbalanced-mnist", "mnist-mini"))
    assert torch.equal(test.labels, plain.labels)
    assert torch.equal(test.source.read(torch.arange(9)), plain.source.read(torch.arange(9)))
    held = open_labelled(IMBALANCED.model_copy(update={"held_out": 500}), "test")
    assert len(held.source) == len(held.labels) == 500


def test_another_mnist_is_refused() -> None:
    refusal = r"holds 9000 train images of mnist, .* needs MNIST's 60000; .* to use mnist-mini"
    with pytest.raises(UserError, match=refusal):
        imbalanced_indexes(IMBALANCED.model_copy(update={"root": "elsewhere"}), 9000)
