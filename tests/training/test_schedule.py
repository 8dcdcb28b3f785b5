from __future__ import annotations

import pytest

from infogan_dist.config.reading import load_config
from infogan_dist.config.schema import Config
from infogan_dist.training.schedule import (
    annealing,
    beta2,
    clustering_weight,
    learning_rate_share,
    length_mismatch,
    penalty_share,
    prior_rate,
)
from tests.conftest import SHIPPED, root_of

TRUNK = "information_trains: trunk, information_from: augmented"


def config(*overrides: str) -> Config:
    """100 steps of 10 images."""
    return load_config("debug", ["train.steps=100", "train.global_batch=10", *overrides])


@pytest.mark.parametrize(
    ("kind", "shares"), [("linear", [1, 1, 0.8, 0.6, 0.2, 0.2]), ("cosine", [1, 1, 0.882843, 0.6, 0.2, 0.2])]
)
def test_annealing_is_constant_then_decays_then_is_constant(kind: str, shares: list[float]) -> None:
    decaying = config(f"schedule={{kind: {kind}, anneal_from: 0.1, anneal_until: 0.3, final: 0.2}}")
    factors = [annealing(decaying, images) for images in (0, 100, 150, 200, 300, 1000)]
    assert factors == pytest.approx(shares, abs=1e-6)


def test_a_constant_schedule_changes_nothing() -> None:
    assert annealing(config(), 10**9) == learning_rate_share(config(), 0) == 1


def test_penalties_and_beta2_move_with_the_decay() -> None:
    moving = config(
        "schedule={kind: cosine, anneal_from: 0, anneal_until: 0.4, final: 0.25, penalty_final: 0.1, beta2_final: 0.99}",
        "objective={adversarial: relativistic, r1_gamma: 1, r2_gamma: 1}",
        "networks={norm_G: none, norm_D: none}",
    )
    images = (0, 200, 400, 1000)
    assert [penalty_share(moving, each) for each in images] == pytest.approx([1, 0.55, 0.1, 0.1])
    assert [beta2(moving, 0.9, each) for each in images] == pytest.approx([0.9, 0.945, 0.99, 0.99])
    assert penalty_share(config(), 10**9) == 1
    assert beta2(config(), 0.9, 10**9) == 0.9


def test_learning_rates_warm_up_from_above_zero() -> None:
    warming = config("schedule.warm_up=0.04")
    shares = [learning_rate_share(warming, images) for images in (0, 10, 20, 30, 40, 900)]
    assert shares == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])
    assert annealing(warming, 0) == 1, "only learning rates warm up"


def test_clustering_weight_starts_at_zero_and_rises() -> None:
    rising = config(f"objective={{{TRUNK}, lambda_clustering: 2, clustering_from: 0.1, clustering_in_full: 0.2}}")
    assert [clustering_weight(rising, images) for images in (0, 99, 150, 200, 300)] == pytest.approx([0, 0, 1, 2, 2])
    at_once = config(f"objective={{{TRUNK}, lambda_clustering: 2, clustering_from: 0.1, clustering_in_full: 0.1}}")
    assert [clustering_weight(at_once, images) for images in (99, 100)] == [0, 2]
    assert clustering_weight(config(), 10**9) == 0


def test_a_learned_prior_starts_to_move_at_its_fraction_with_its_half_life() -> None:
    learned = "latents={prior: learned, prior_from: 0.1, prior_half_life_images: 20}"
    moving = config(learned, f"objective={{{TRUNK}}}")
    assert [prior_rate(moving, images) for images in (0, 99)] == [0, 0]
    rate = prior_rate(moving, 100)
    assert (1 - rate) ** 2 == pytest.approx(0.5), "two steps of 10 images"
    assert prior_rate(moving, 10**9) == rate
    assert prior_rate(config(), 10**9) == 0
    assert length_mismatch(config(learned, f"objective={{{TRUNK}}}", "schedule.images=500")) is not None


def test_fractions_refer_to_the_recorded_images() -> None:
    longer = config("schedule={kind: linear, images: 1000}", "train.steps=200")
    assert [annealing(longer, images) for images in (500, 1000, 1500)] == pytest.approx([1, 0.02, 0.02])


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_config_ends_with_its_schedule(name: str) -> None:
    assert length_mismatch(load_config(name, root_of(name))) is None


def test_schedule_of_another_length_than_the_run_is_reported() -> None:
    early = length_mismatch(load_config("quickstart", ["schedule.images=180000", "train.steps=900"]))
    assert early is not None
    assert "warning: the run ends at 86,400 images" in early
    assert "schedule.images = 180,000; set train.steps=1875" in early
    late = length_mismatch(load_config("quickstart", ["schedule.images=180000", "train.steps=2000"]))
    assert late is not None
    assert "warning" not in late
    assert "end at schedule.images = 180,000" in late
    assert length_mismatch(load_config("lab6", ["schedule.images=5"])) is None, "nothing depends on it"
