from __future__ import annotations

import pytest
import torch

from infogan_dist.config.model import DataConfig
from infogan_dist.data.mnist_variants import imbalanced_indexes
from infogan_dist.evaluation.imbalanced_subset import chosen
from infogan_dist.evaluation.labels import open_labelled

IMBALANCED = DataConfig(name="imbalanced-mnist")


def test_digit_0_is_twenty_times_as_frequent_as_digit_9() -> None:
    labels = torch.arange(10).repeat_interleave(torch.arange(200, 300, 10)).flip(0)
    counts = labels[chosen(labels)].bincount()
    assert counts.tolist() == [round(200 * 20 ** (-digit / 9)) for digit in range(10)]
    assert (counts[0], counts[9]) == (200, 10)


def test_the_shipped_subset_is_the_chosen_one() -> None:
    mini = open_labelled(DataConfig(), "train").labels
    assert torch.equal(imbalanced_indexes(IMBALANCED, 10_000), chosen(mini).nonzero().flatten())
    counts = open_labelled(IMBALANCED, "train").labels.bincount()
    assert counts[0] / counts[9] == pytest.approx(20, rel=0.02)
    assert (counts.diff() < 0).all()


def test_the_shipped_subset_of_full_mnist_is_the_chosen_one(full_mnist: str) -> None:
    data = IMBALANCED.model_copy(update={"root": full_mnist})
    counts = open_labelled(data, "train").labels.bincount()
    assert (counts[0], counts[9]) == (5421, 271)
    labels = open_labelled(data.model_copy(update={"name": "mnist"}), "train").labels
    assert torch.equal(imbalanced_indexes(data, 60_000), chosen(labels).nonzero().flatten())
