"""Known answers of the modes and the reverse KL of stacked MNIST."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from infogan_dist.config.running import ProcessesConfig
from infogan_dist.data import mnist_mini
from infogan_dist.distributed.group import Group
from infogan_dist.evaluation import reference_classifier
from infogan_dist.evaluation.evaluated_model import EvaluatedModel
from infogan_dist.evaluation.metrics import stacked_modes
from infogan_dist.evaluation.metrics.stacked_modes import mode_numbers, mode_scores
from infogan_dist.evaluation.reals import Reals
from infogan_dist.evaluation.reference_classifier import classifier_file
from tests.conftest import ONE_PROCESS, tiny

EVERY_MODE = torch.cartesian_prod(*[torch.arange(10)] * 3)
EVEN = torch.full((10,), 0.1, dtype=torch.float64)


def test_each_mode_has_a_number() -> None:
    assert mode_numbers(EVERY_MODE).tolist() == list(range(1000))
    assert mode_numbers(torch.tensor([[3, 0, 7]])).item() == 307


def test_all_modes_drawn_evenly_have_no_divergence() -> None:
    found = mode_scores(EVERY_MODE.repeat(26, 1), EVERY_MODE[:500], EVEN)
    assert (found["modes"], found["modes_of_reals"], found["images"]) == (1000, 500, 26_000)
    assert found["reverse_kl"] == pytest.approx(0, abs=1e-12)
    assert found["reverse_kl_floor"] == pytest.approx(math.log(2))


def test_a_collapsed_generator_has_ln_1000_nats() -> None:
    found = mode_scores(torch.tensor([[3, 1, 4]]).repeat(50, 1), EVERY_MODE, EVEN)
    assert (found["modes"], found["reverse_kl"]) == (1, pytest.approx(math.log(1000)))


def test_the_distribution_of_the_reals_is_the_product_of_the_digits_shares() -> None:
    shares = torch.arange(1, 11, dtype=torch.float64) / 55
    found = mode_scores(torch.tensor([[0, 0, 9], [9, 9, 9]]), EVERY_MODE, shares)
    first, second = 10 / 55**3, 1000 / 55**3
    assert found["reverse_kl"] == pytest.approx(0.5 * math.log(0.5 / first) + 0.5 * math.log(0.5 / second))
    least = mode_scores(EVERY_MODE.repeat_interleave((EVERY_MODE + 1).prod(1), 0), EVERY_MODE, shares)
    assert least["reverse_kl"] == pytest.approx(0, abs=1e-12)


class CopyingGenerator(torch.nn.Module):
    """A G that stacks train digits of the classes of three codes; `codes` are the codes that each channel follows."""

    def __init__(self, codes: tuple[int, int, int]):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        images, labels = map(torch.from_numpy, mnist_mini.load("train"))
        self.digits, self.codes = torch.stack([images[labels == digit][:100] for digit in range(10)]), codes

    def forward(self, vector: Tensor) -> Tensor:
        z, *classes = vector.split((5, 10, 10, 10), dim=1)
        which = torch.stack([classes[code].argmax(1) for code in self.codes], dim=1)
        return self.digits[which, ((z[:, :3] + 1) / 2 * 99).long()] / 127.5 - 1


def test_modes_of_a_generator_that_stacks_train_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(reference_classifier, "classifier_file", partial(classifier_file, steps=60))
    monkeypatch.setattr(stacked_modes, "IMAGES", 2000)
    latents = "latents={noise: [{dim: 5, distribution: uniform}], categorical: [10, 10, 10], continuous: 0}"
    config = tiny(tmp_path, latents, "data={name: stacked-mnist, channels: 3}")
    reals, found = Reals.open(config.data), {}
    with Group(ONE_PROCESS, 1, ProcessesConfig()) as group:
        for codes in ((0, 1, 2), (0, 0, 0)):
            G = CopyingGenerator(codes)
            model = EvaluatedModel(G, G, G, config, None)
            metrics = stacked_modes.stacked_modes(model, reals, group)
            found[codes] = metrics["stacked_modes"]
        assert stacked_modes.stacked_modes(model, Reals.open(tiny(tmp_path).data, 10, 10), group) == {}
    assert metrics["classifier_accuracy"] > 0.8
    every, tied = found.values()
    assert every["modes"] > 800, "2,000 images hit 865 of 1,000 even modes on average"
    assert every["modes_of_reals"] > 800
    assert every["reverse_kl_floor"] < 0.4
    assert every["reverse_kl"] < every["reverse_kl_floor"] + 0.1
    assert tied["modes"] < 500, "a few modes and the classifier's errors"
    assert tied["reverse_kl"] > 2
