from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from infogan_dist.data import mnist_mini
from infogan_dist.evaluation import reference_classifier
from infogan_dist.evaluation.evaluated_model import scaled
from infogan_dist.evaluation.metrics.non_digit import least_confidence, non_digit_rate
from infogan_dist.evaluation.reference_classifier import (
    DIGITS,
    FEATURES,
    ReferenceClassifier,
    classifier_file,
    classifier_from,
    sha256,
    split_output,
    train_classifier,
)
from infogan_dist.randomness import Stream

STEPS = 60


def digits(split: str) -> tuple[Tensor, Tensor]:
    images, labels = map(torch.from_numpy, mnist_mini.load(split))
    return images[:, None], labels.long()


TRAIN, TEST = digits("train"), digits("test")


@pytest.fixture(scope="module")
def trained() -> ReferenceClassifier:
    return train_classifier(
        *TRAIN, steps=2 * STEPS
    )  # after 60 it is still as confident on stripes as on unclear digits


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "infogan_dist"


def few(count: int = 64) -> tuple[Tensor, Tensor]:
    return TRAIN[0][::150][:count], TRAIN[1][::150][:count]


def test_a_few_steps_suffice_to_classify_most_digits(trained: ReferenceClassifier) -> None:
    read = split_output(trained(scaled(TEST[0])))
    assert (read.digits == TEST[1]).double().mean().item() > 0.9
    assert read.features.shape == (len(TEST[0]), FEATURES)
    assert read.logits.shape == (len(TEST[0]), DIGITS)
    assert 1 / DIGITS < read.confidences.min() <= read.confidences.max() <= 1


def test_it_does_not_learn_from_random_labels() -> None:
    """The bound above can fail."""
    classifier = train_classifier(TRAIN[0], TRAIN[1].roll(1000) * 0 + torch.arange(len(TRAIN[1])) % DIGITS, steps=STEPS)
    assert (split_output(classifier(scaled(TEST[0]))).digits == TEST[1]).double().mean().item() < 0.3


def test_its_confidence_on_non_digits_is_low(trained: ReferenceClassifier) -> None:
    least = least_confidence(split_output(trained(scaled(TEST[0]))).confidences)
    rows = torch.arange(100)
    greys = torch.linspace(-1, 1, 100)[:, None, None, None].expand(-1, 1, 28, 28)
    noise = 2 * Stream(5, "noise").uniform(rows, 28 * 28).view(-1, 1, 28, 28) - 1
    stripes = torch.where(torch.arange(28) // 3 % 2 == 0, 1.0, -1.0).expand(1, 1, 28, 28)
    for images in (greys, noise, stripes):
        assert non_digit_rate(split_output(trained(images)).confidences, least) > 0.9


def test_shuffled_patches_come_from_the_same_digit() -> None:
    positions, stream = torch.arange(32), Stream(0, "x")
    numbered = torch.arange(16.0).view(4, 4).repeat_interleave(7, 0).repeat_interleave(7, 1).expand(32, 1, 28, 28) / 16
    shuffled = reference_classifier._non_digits(numbered, stream, positions)[:16]
    assert torch.equal(shuffled.flatten(1).sort(1).values, numbered[:16].flatten(1).sort(1).values)
    assert torch.equal(shuffled[:, :, ::7, ::7].repeat_interleave(7, 2).repeat_interleave(7, 3), shuffled)
    assert len(shuffled.flatten(1).unique(dim=0)) == 16
    assert reference_classifier._non_digits(numbered, stream, positions).shape == numbered.shape


def test_colour_is_averaged_to_grey(trained: ReferenceClassifier) -> None:
    grey = scaled(TEST[0][:50])
    torch.testing.assert_close(trained(grey.expand(-1, 3, -1, -1)), trained(grey))


def test_digits_of_another_size_are_resized() -> None:
    images, labels = TRAIN[0][::4], TRAIN[1][::4]
    classifier = train_classifier(images.repeat_interleave(2, 2).repeat_interleave(2, 3), labels, steps=STEPS)
    larger = scaled(TEST[0][::4].repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert (split_output(classifier(larger)).digits == TEST[1][::4]).double().mean().item() > 0.85


def test_the_same_digits_give_the_same_classifier_for_any_global_random_state(cache: Path) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = classifier_file(*few(), "few", steps=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    for path in cache.iterdir():
        path.unlink()
    assert classifier_file(*few(), "few", steps=3) == first


def test_it_is_trained_once(cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    first = classifier_file(*few(), "few", steps=3)
    (path,) = cache.iterdir()
    assert path.suffix == ".safetensors"
    assert str(path) in capsys.readouterr().out
    monkeypatch.setattr(reference_classifier, "train_classifier", lambda *_: pytest.fail("trained again"))
    assert classifier_file(*few(), "few", steps=3) == first == path.read_bytes()
    assert len(sha256(first)) == 64


@pytest.mark.parametrize("damage", ["bit", "cut", "empty", "foreign"])
def test_a_damaged_file_is_replaced(cache: Path, damage: str) -> None:
    first = classifier_file(*few(), "few", steps=3)
    (path,) = cache.iterdir()
    flipped = first[:-9] + bytes([first[-9] ^ 1]) + first[-8:]
    foreign = b"PK\x03\x04 not a safetensors file"
    path.write_bytes({"bit": flipped, "cut": first[:-100], "empty": b"", "foreign": foreign}[damage])
    assert classifier_file(*few(), "few", steps=3) == first
    assert path.read_bytes() == first


def test_other_digits_or_labels_have_another_cached_file(cache: Path) -> None:
    images, labels = few()
    classifier_file(images, labels, "few", steps=1)
    classifier_file(images, labels.roll(1), "few", steps=1)
    classifier_file(images.roll(1, dims=3), labels, "few", steps=1)
    assert len(list(cache.iterdir())) == 3


def test_a_classifier_is_trained_where_the_cache_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    classifier = classifier_from(classifier_file(*few(), "few", steps=1))
    assert not classifier.training
    assert not any(parameter.requires_grad for parameter in classifier.parameters())


def test_the_threads_of_the_process_are_restored(cache: Path) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before + 1)
        classifier_file(*few(), "few", steps=1)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_shifts_move_digits_and_fill_with_black() -> None:
    image = torch.full((2, 1, 4, 4), -1.0)
    image[:, 0, 0, 0] = 1
    moved = reference_classifier._shifted(image, torch.tensor([[0, 1], [4, 3]]))
    assert moved[0].max() == 1, "row 0 moves it down by SHIFT"
    assert torch.equal(reference_classifier._shifted(image, torch.full((2, 2), reference_classifier.SHIFT)), image)
    assert moved[1].max() == -1, "moved out of the image"
