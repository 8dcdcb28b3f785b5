"""A learned class prior: what moves it, what is drawn from it, and who follows it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from infogan_dist import Generator
from infogan_dist.checkpoints.run_folder import read_metrics
from infogan_dist.config.schema import Config
from infogan_dist.data.sources import open_images
from infogan_dist.diagnostics.debug import debug
from infogan_dist.distributed.cluster import Cluster
from infogan_dist.evaluation.evaluated_model import in_training
from infogan_dist.networks.class_prior import class_priors, move_class_priors
from infogan_dist.training.batches import BatchStream
from infogan_dist.training.loop import train
from infogan_dist.training.optimizers import set_rates
from infogan_dist.training.step import train_step
from infogan_dist.training.train_state import TrainState
from tests.conftest import ONE_PROCESS, tiny
from tests.training.test_step import batch_of, plain_state

LEARNED = (
    "objective.information_trains=trunk",
    "latents={noise: [{dim: 3}], categorical: [4, 2], continuous: 1, prior: learned, prior_from: 0, prior_half_life_images: 24}",
)
SHARES = ([0.5, 0.25, 0.2, 0.05], [0.7, 0.3])  # that Q predicts


def state_of(config: Config) -> TrainState:
    """A state whose Q predicts SHARES for every image, and does not learn."""
    state = plain_state(config)
    with torch.no_grad():
        state.networks.Q.posterior.weight.zero_()
        logits = torch.cat([torch.tensor(shares).log() for shares in SHARES])
        state.networks.Q.posterior.bias[: len(logits)] = logits.to(state.networks.Q.posterior.bias)
    set_rates((state.optimizer_D, state.optimizer_G), 0.0)
    return state


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_the_prior_is_the_moving_average_of_what_q_predicts_for_reals(micro_batches: int) -> None:
    config = tiny("x", *LEARNED)
    state, batch = state_of(config), replace(batch_of(config), prior_rate=torch.tensor(0.25))
    for step in range(1, 4):
        train_step(state, [batch] * micro_batches)
        for prior, shares in zip(class_priors(state.networks.G), SHARES, strict=True):
            kept = 0.75**step
            expected = [kept / len(shares) + (1 - kept) * share for share in shares]
            assert prior.tolist() == pytest.approx(expected, abs=1e-6)
    assert all(prior.dtype == torch.float64 for prior in class_priors(state.networks.G))


def test_micro_batches_count_alike() -> None:
    config = tiny("x", *LEARNED, "networks={width: 4, norm_G: none, norm_D: none}")
    first = replace(batch_of(config), prior_rate=torch.tensor(0.5))
    second = replace(first, reals=-first.reals.abs())
    moved = {}
    for name, batches in {"first": [first], "second": [second], "both": [first, second]}.items():
        state = plain_state(config)
        with torch.no_grad():
            state.networks.Q.posterior.weight.mul_(10_000)  # predictions that depend on the image
        train_step(state, batches)
        moved[name] = class_priors(state.networks.G)[0]
    assert (moved["first"] - moved["second"]).abs().max() > 1e-3
    torch.testing.assert_close(moved["both"], (moved["first"] + moved["second"]) / 2)


def test_it_does_not_move_without_a_rate_nor_in_a_skipped_step() -> None:
    config = tiny("x", *LEARNED)
    state, batch = state_of(config), batch_of(config)
    train_step(state, [batch])
    nonfinite = replace(batch, latent=torch.full_like(batch.latent, math.nan), prior_rate=torch.tensor(0.25))
    assert train_step(state, [nonfinite])["gradient/D"].isnan()
    assert [prior.tolist() for prior in class_priors(state.networks.G)] == [[0.25] * 4, [0.5] * 2]


def test_no_class_gets_less_than_a_tenth_of_an_even_share() -> None:
    prior, shares = torch.full((4,), 0.25), torch.tensor([1.0, 0.0, 0.0, 0.0])
    for _ in range(100):
        move_class_priors([prior], [shares], torch.tensor(0.5), torch.tensor(True))
    assert all(0.022 < share < 0.025 for share in prior[1:].tolist())
    assert prior.sum() == pytest.approx(1)
    move_class_priors([prior], [torch.full((4,), math.nan)], torch.tensor(0.5), torch.tensor(True))
    assert prior.isfinite().all()


@pytest.mark.parametrize("balanced", ["true", "false"])
def test_a_step_draws_its_classes_from_the_prior_that_it_begins_with(balanced: str) -> None:
    config = tiny("x", *LEARNED, f"latents.balanced={balanced}", "train.global_batch=960")
    priors = [torch.full((4,), 0.25), torch.full((2,), 0.5)]
    with Cluster(ONE_PROCESS, 1, config.processes) as cluster:
        cluster.configure(config)
        batches = BatchStream(config, cluster, open_images(config.data), priors)
        (even,) = batches.at(1)
        priors[0].copy_(torch.tensor([0.5, 0.5, 0.0, 0.0]))
        (uneven,) = batches.at(2)
        (again,) = BatchStream(config, cluster, open_images(config.data), priors).at(2)
    assert even.codes.categorical[:, 0].bincount().tolist() == pytest.approx(
        [240] * 4, abs=2 if balanced == "true" else 60
    )
    assert uneven.codes.categorical[:, 0].bincount().tolist() == pytest.approx(
        [480] * 2, abs=2 if balanced == "true" else 60
    )
    assert torch.equal(uneven.latent, again.latent)
    for batch in (even, uneven):
        one_hots = batch.latent[:, 3:9].split([4, 2], dim=1)
        assert torch.equal(torch.stack([each.argmax(1) for each in one_hots], 1), batch.codes.categorical)
        assert torch.equal(batch.latent[:, 9:], batch.codes.continuous.double())


def test_samples_and_bounds_follow_the_prior(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(tiny(run, *LEARNED), ONE_PROCESS)
    rows = [row for row in read_metrics(run / "metrics.jsonl") if row["kind"] == "train"]
    prior = [rows[-1][f"prior/categorical_0/{number}"] for number in range(4)]
    assert sum(prior) == pytest.approx(1)
    assert max(prior) > 0.251
    entropy = -sum(p * math.log(p) for p in prior)
    assert rows[-1]["health/prior_entropy/categorical_0"] == pytest.approx(entropy)
    spec = Generator.from_pretrained(run).spec
    assert spec.priors[0] == pytest.approx(prior)
    assert spec.ceilings()["categorical_0"] == pytest.approx(entropy)


def test_the_bound_of_a_q_that_predicts_the_prior_is_zero() -> None:
    config = tiny("x", *LEARNED)
    state = state_of(config)
    for G in (state.networks.G, state.networks.G_ema):
        for prior, shares in zip(class_priors(G), SHARES, strict=True):
            prior.copy_(torch.tensor(shares))
    with in_training(state.networks, config, fresh=2000) as model:
        assert model.spec.ceilings()["categorical_1"] == pytest.approx(-(0.7 * math.log(0.7) + 0.3 * math.log(0.3)))
        drawn = model.latents(torch.arange(2000)).codes.categorical
        assert (drawn[:, 0].bincount() / 2000).tolist() == pytest.approx(SHARES[0], abs=0.03)
    batch = replace(batch_of(config, 400), codes=replace(batch_of(config, 400).codes, categorical=drawn[:400]))
    metrics: dict[str, Tensor] = train_step(state, [batch])
    assert metrics["mi/categorical_0"].item() == pytest.approx(0, abs=0.08)
    assert metrics["mi/categorical_1"].item() == pytest.approx(0, abs=0.08)


def test_debug_run_accepts_a_learned_prior(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    debug(tiny(tmp_path / "run", *LEARNED), ONE_PROCESS)
    assert "computed twice, gives the same bits" in capsys.readouterr().out
