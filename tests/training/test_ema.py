from __future__ import annotations

import pytest
import torch

from infogan_dist.config.running import TrainConfig
from infogan_dist.networks import build_networks
from infogan_dist.training.ema import ema_decay, update_average
from tests.conftest import tiny


def test_average_does_not_move_after_a_skipped_update() -> None:
    networks = build_networks(tiny("x"))
    with torch.no_grad():
        networks.G.lift.weight.add_(1)
    old = networks.G_ema.lift.weight.clone()
    update_average(networks, TrainConfig(global_batch=100), 10**6, torch.tensor(float("nan")))
    assert torch.equal(networks.G_ema.lift.weight, old)
    update_average(networks, TrainConfig(global_batch=100), 10**6, torch.tensor(3.0))
    assert not torch.equal(networks.G_ema.lift.weight, old)


def test_average_forgets_half_after_the_half_life() -> None:
    assert ema_decay(1000, 10**9, 100) ** 10 == pytest.approx(0.5)
    assert ema_decay(1000, 10**9, 100) == pytest.approx(ema_decay(1000, 10**9, 50) ** 2)


def test_average_ramps_up_and_switches_off() -> None:
    assert ema_decay(10_000, 100, 100) < 1e-5
    assert ema_decay(10_000, 1000, 100) == pytest.approx(0.5 ** (100 / 50))
    assert ema_decay(0, 10**9, 100) == 0


@pytest.mark.parametrize(("half_life", "kept"), [(0, 0.0), (100, 0.5)])
def test_weights_are_averaged_and_buffers_copied(half_life: int, kept: float) -> None:
    networks = build_networks(tiny("x"))
    with torch.no_grad():
        networks.G.lift.weight.add_(1)
        networks.G.lift_norm.running_mean.add_(3)
    old = networks.G_ema.lift.weight.clone()
    update_average(networks, TrainConfig(global_batch=100, ema_half_life_images=half_life), 10**6, torch.ones(()))
    torch.testing.assert_close(networks.G_ema.lift.weight, kept * old + (1 - kept) * networks.G.lift.weight)
    assert torch.equal(networks.G_ema.lift_norm.running_mean, networks.G.lift_norm.running_mean)
