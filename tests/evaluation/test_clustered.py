"""Known answers of the control that clusters without a GAN."""

from __future__ import annotations

import pytest
import torch

from infogan_dist.config.running import ProcessesConfig
from infogan_dist.distributed.group import Group
from infogan_dist.evaluation import clustered
from infogan_dist.evaluation.clustered import SUB_HEADS, clustering_config, clustering_control, trained
from infogan_dist.evaluation.reals import Reals
from tests.conftest import ONE_PROCESS
from tests.evaluation.test_supervised import KINDS, config, quarters

CLASSES = ("a", "b", "c", "d")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clustered, "IMAGES", 6_000)
    monkeypatch.setattr(clustered, "BATCH", 100)
    monkeypatch.setattr(clustered, "RATE", 5e-3)


def test_it_finds_kinds_that_differ_without_labels() -> None:
    settings = config("augmentation.preset=none", "objective.neighbour_positives=0")
    reals = Reals(settings.data, quarters("train"), quarters("test"), KINDS, KINDS, None, CLASSES)
    with Group(ONE_PROCESS, 1, ProcessesConfig()) as group:
        (row,) = clustering_control(settings, "x", reals, group)
        (again,) = clustering_control(settings, "x", reals, group)
        unlabelled = Reals(settings.data, quarters("train"), quarters("test"), None, None)
        assert clustering_control(settings, "x", unlabelled, group) == []
    assert row["code_error"] < 0.02
    assert row["clustering_loss"] < -0.9 * torch.tensor(4.0).log()
    assert row == again


def test_the_losses_of_the_sub_heads_are_mutual_informations() -> None:
    changed = clustering_config(config("augmentation.preset=none"), len(CLASSES))
    with Group(ONE_PROCESS, 1, ProcessesConfig()) as group:
        _, losses = trained(changed, quarters("train"), group)
    assert losses.shape == (SUB_HEADS,)
    assert (losses > -torch.tensor(4.0).log() - 1e-2).all()
    assert (losses < 0).all()
