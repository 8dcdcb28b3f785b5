"""Known answers of the supervised control."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from infogan_dist.config.running import ProcessesConfig
from infogan_dist.config.schema import Config
from infogan_dist.data.sources import ArraySource
from infogan_dist.distributed.group import Group
from infogan_dist.evaluation import supervised
from infogan_dist.evaluation.metrics.disentanglement import Variables
from infogan_dist.evaluation.reals import Reals
from infogan_dist.evaluation.supervised import as_codes, factor_ceiling, posterior_of, supervised_config, trained
from infogan_dist.latents import Codes
from infogan_dist.randomness import Stream
from tests.conftest import ONE_PROCESS, tiny

CPU = torch.device("cpu")
KINDS = torch.arange(400) % 4


def quarters(name: str) -> ArraySource:
    """Noise, with a bright quarter that is the class."""
    noise = Stream(0, name).integers(torch.arange(400), 784, 100).view(400, 1, 28, 28)
    bright = torch.zeros(4, 1, 28, 28, dtype=torch.int64)
    for kind in range(4):
        bright[kind, 0, 14 * (kind // 2) :, 14 * (kind % 2) :][:14, :14] = 150
    return ArraySource((noise + bright[KINDS]).to(torch.uint8))


def config(*overrides: str) -> Config:
    return tiny("x", "train.precision=fp32", "networks.width=8", *overrides)


def error_of(network: nn.Module) -> float:
    found = posterior_of(network, CONFIG, quarters("test"), CPU).logits[0].argmax(1)
    return float((found != KINDS).double().mean())


CONFIG = supervised_config(config(), (4,), 0)


def test_it_learns_labels_that_the_images_show_and_none_that_they_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervised, "IMAGES", 4_000)
    monkeypatch.setattr(supervised, "RATE", 5e-3)
    random = Stream(0, "labels").integers(torch.arange(400), 1, 4)[:, 0]
    with Group(ONE_PROCESS, 1, ProcessesConfig()) as group:
        network, again, useless = (
            trained(CONFIG, quarters("train"), Codes(labels[:, None], torch.zeros(400, 0)), group)
            for labels in (KINDS, KINDS, random)
        )
    assert not network.training
    assert error_of(network) < 0.02
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))
    assert 0.6 < error_of(useless) < 0.9


def test_factors_become_classes_and_values_from_minus_one_to_one() -> None:
    factors = Variables(torch.tensor([[2.0, 0.5, 10.0], [0.0, 0.75, 30.0], [1.0, 1.0, 20.0]]), (True, False, False))
    codes = as_codes(factors)
    assert codes.categorical.tolist() == [[2], [0], [1]]
    assert codes.continuous.tolist() == [[-1, -1], [0, 1], [1, 0]]


def test_networks_trained_with_the_factors_score_above_the_floors(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.setattr(supervised, "IMAGES", 20_000)
    monkeypatch.setattr(supervised, "RATE", 3e-3)
    on_sprites = config("data={name: sprites, image_size: 28}", "latents={categorical: [], continuous: 2}")
    reals = Reals.open(on_sprites.data, most_test=300)
    with Group(ONE_PROCESS, 1, ProcessesConfig()) as group:
        ceiling = factor_ceiling(on_sprites, reals, group)["factor_ceiling"]
        assert factor_ceiling(config(), Reals.open(config().data, 10, 10), group) == {}
    assert ceiling["mig"] > 0.2
    assert ceiling["factor_vae"] > 0.6
