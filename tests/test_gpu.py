"""What only a CUDA device can show. Skipped, visibly, where there is none."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from infogan_dist.batches import BatchStream
from infogan_dist.checkpoints import find
from infogan_dist.data import ImageShelf, open_images, stream
from infogan_dist.distributed import Cluster
from infogan_dist.ema import update_average
from infogan_dist.run import game_state
from infogan_dist.steps import train_step
from infogan_dist.training import build_game, stepper, train
from tests.conftest import ONE_PROCESS, tiny

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none"),
]
ONE_GPU = dataclasses.replace(ONE_PROCESS, cpu=False)


def first_gradients(precision: str, launch=ONE_GPU) -> dict[str, Tensor]:  # type: ignore[no-untyped-def]
    """D's reduced and unscaled gradients of the first step, in float32 on the CPU."""
    config = tiny("x", f"train.precision={precision}", "optimizer.D.clip_norm=1e9")
    with Cluster(launch, 1, config.processes) as cluster:
        cluster.configure(config)
        game, batches = build_game(config, cluster), BatchStream(config, cluster, open_images(config.data))
        train_step(game, batches.at(1))
        named = game.networks.FE.named_parameters()
        return {name: parameter.grad.float().cpu() for name, parameter in named if parameter.grad is not None}


@pytest.mark.parametrize(("precision", "bound"), [("fp64", 1e-6), ("fp32", 1e-2), ("bf16", 0.1), ("fp16", 0.03)])
def test_the_first_gradients_are_those_of_a_cpu(precision: str, bound: float) -> None:
    """Seed, noise and data are the same on every device; fp32 may use tf32."""
    ours, exact = first_gradients(precision), first_gradients("fp64", ONE_PROCESS)
    assert ours.keys() == exact.keys()
    a, b = (torch.cat([tensor.flatten() for tensor in each.values()]) for each in (ours, exact))
    assert (a - b).norm() <= bound * b.norm()


def test_fp16_grows_its_scale_once_a_step_and_halves_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny("x", "train.precision=fp16")
    with Cluster(ONE_GPU, 1, config.processes) as cluster:
        cluster.configure(config)
        game, batches = build_game(config, cluster), BatchStream(config, cluster, open_images(config.data))
        scaler = cluster._accelerate.scaler
        scaler.set_growth_interval(3)
        scaler.load_state_dict(scaler.state_dict() | {"scale": 1024.0})
        for step in (1, 2, 3):
            train_step(game, batches.at(step))
        assert cluster.scaler_state()["scale"] == 2048
        real = cluster.unscale

        def overflow(optimizer: torch.optim.Optimizer) -> None:
            optimizer.param_groups[0]["params"][0].grad.view(-1)[0] = float("inf")
            real(optimizer)

        monkeypatch.setattr(cluster, "unscale", overflow)
        before = {name: t.clone() for name, t in game_state(game)["G"].items() if not name.endswith(("mean", "var"))}
        train_step(game, batches.at(4))
        assert cluster.scaler_state()["scale"] == 1024
        assert all(torch.equal(game_state(game)["G"][name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_resumed_run_goes_on_with_scale_and_states(tmp_path: Path, precision: str) -> None:
    train(tiny(tmp_path / "run", f"train.precision={precision}", "train.steps=4"), ONE_GPU)
    train(tiny(tmp_path / "run", f"train.precision={precision}"), ONE_GPU)
    saved = find(tmp_path / "run")
    assert saved.step == 6
    assert bool(saved.manifest["scaler"]) is (precision == "fp16")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("compiled", ["false", "default"])
def test_a_graph_of_the_step_trains_as_the_plain_step(precision: str, compiled: str) -> None:
    """Ten steps: plain ones, the recording and replays. The same kernels, so the same numbers but for the order of their sums."""
    states = []
    for graph in ("false", "true"):
        config = tiny("x", f"train.precision={precision}", f"train.cuda_graph={graph}", f"train.compile={compiled}")
        with Cluster(ONE_GPU, 1, config.processes) as cluster:
            cluster.configure(config)
            game, batches = build_game(config, cluster), BatchStream(config, cluster, open_images(config.data))
            take_step = stepper(config, cluster, game)
            for step in range(1, 11):
                metrics = take_step(batches.at(step))
            states.append({name: value.clone() for name, value in (game_state(game)["G"] | metrics).items()})
    for name, plain in states[0].items():
        torch.testing.assert_close(states[1][name], plain, rtol=1e-2, atol=1e-3)


def test_the_loop_does_not_wait_for_the_gpu() -> None:
    """Between logged steps no operation makes the host wait: torch raises where one does."""
    config = tiny("x", "train.precision=bf16", "train.steps=9")
    with Cluster(ONE_GPU, 1, config.processes) as cluster:
        cluster.configure(config)
        game, batches = build_game(config, cluster), BatchStream(config, cluster, open_images(config.data))
        for step in (1, 2, 3):
            train_step(game, batches.at(step))
        torch.cuda.set_sync_debug_mode("error")
        try:
            for step in (4, 5, 6):
                metrics = train_step(game, batches.at(step))
                update_average(game.networks, config.train, step, metrics["gradient/G"])
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_a_streamed_set_gives_the_images_of_a_resident_one(monkeypatch: pytest.MonkeyPatch) -> None:
    source, order = open_images(tiny("x").data), torch.arange(200)
    sets = (order[:100], torch.cat([order[:50], order[150:]]))  # some in both
    device = torch.device("cuda", 0)
    resident = ImageShelf(source, device, torch.float32).read_together(*sets)
    monkeypatch.setattr(stream, "RESIDENT_SHARE", 0)
    streamed = ImageShelf(source, device, torch.float32)
    streamed.prefetch(*sets)
    for ours, theirs in zip(streamed.read_together(*sets), resident, strict=True):
        assert ours.device.type == "cuda"
        assert torch.equal(ours, theirs)
