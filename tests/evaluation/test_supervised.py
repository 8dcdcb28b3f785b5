"""Known answers of the supervised control."""

from __future__ import annotations

import pytest
import torch

from infogan_dist.config.running import ProcessesConfig
from infogan_dist.config.schema import Config
from infogan_dist.data.sources import ArraySource
from infogan_dist.distributed.group import Group
from infogan_dist.evaluation import supervised
from infogan_dist.evaluation.supervised import classes_of, trained
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


def test_it_learns_labels_that_the_images_show_and_none_that_they_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervised, "IMAGES", 4_000)
    monkeypatch.setattr(supervised, "RATE", 5e-3)
    random = Stream(0, "labels").integers(torch.arange(400), 1, 4)[:, 0]
    with Group(ONE_PROCESS, 1, ProcessesConfig()) as group:
        network, again = (trained(config(), quarters("train"), KINDS, 4, group) for _ in range(2))
        useless = trained(config(), quarters("train"), random, 4, group)
    assert not network.training
    assert (classes_of(network, quarters("test"), CPU) != KINDS).double().mean() < 0.02
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))
    assert 0.6 < (classes_of(useless, quarters("test"), CPU) != KINDS).double().mean() < 0.9
