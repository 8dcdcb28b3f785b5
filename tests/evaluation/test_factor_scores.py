from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from infogan_dist.config.model import DataConfig, LatentsConfig, NoiseConfig
from infogan_dist.config.running import ProcessesConfig
from infogan_dist.data import sprites
from infogan_dist.distributed.group import Group
from infogan_dist.evaluation.command import EvaluateOptions, evaluate
from infogan_dist.evaluation.evaluated_model import EvaluatedModel
from infogan_dist.evaluation.factor_floors import factor_floors
from infogan_dist.evaluation.labels import known_factors
from infogan_dist.evaluation.metrics.factor_scores import factor_scores
from infogan_dist.evaluation.reals import Reals
from infogan_dist.evaluation.table import run_report
from infogan_dist.latents import LatentSpec
from infogan_dist.losses import CodePosterior
from infogan_dist.networks import build_networks
from infogan_dist.training.loop import train
from tests.conftest import ONE_PROCESS, tiny

IMAGES = 2000
SPEC = LatentSpec.from_config(LatentsConfig(noise=(NoiseConfig(dim=4),), categorical=(3,), continuous=4))
REALS = Reals.open(DataConfig(name="sprites"), most_train=10, most_test=IMAGES)


def metrics_of(classes: Tensor, means: Tensor) -> dict[str, Any]:
    """The metrics of a model that predicts these classes, int64 [N], and continuous codes, [N, 4], on the test images."""
    posterior = CodePosterior((10 * one_hot(classes, 3).double(),), means, torch.zeros_like(means))
    model = SimpleNamespace(spec=SPEC, posteriors=lambda source, group: posterior)
    with Group(ONE_PROCESS, 1, ProcessesConfig()) as group:
        return factor_scores(cast(EvaluatedModel, model), REALS, group)


def truth() -> Tensor:
    assert REALS.test_factors is not None
    return REALS.test_factors.variables.values


def test_the_factors_draw_the_test_images() -> None:
    assert torch.equal(sprites.draw(truth()[:50], 28), REALS.test.read(torch.arange(50)))
    held_out = DataConfig(name="sprites", held_out=100)
    factors = known_factors(held_out, "test", torch.arange(20))
    assert factors is not None
    reals = Reals.open(held_out, most_train=10)
    assert torch.equal(sprites.draw(factors.variables.values, 28), reals.test.read(torch.arange(20)))
    assert known_factors(DataConfig(name="mnist-mini"), "test", torch.arange(2)) is None


def test_codes_that_equal_the_factors_have_the_best_scores_and_are_named() -> None:
    pytest.importorskip("sklearn")
    ranges = torch.tensor([sprites.SCALES, sprites.ROTATIONS, sprites.POSITIONS, sprites.POSITIONS]).double().T
    means = 2 * (truth()[:, 1:] - ranges[0]) / (ranges[1] - ranges[0]) - 1
    metrics = metrics_of((truth()[:, 0].long() + 1) % 3, -means.flip(1))
    assert metrics["factor_scores"]["mig"] > 0.9
    assert metrics["factor_scores"]["factor_vae"] > 0.98
    assert metrics["factor_scores"]["sap"] > 0.6
    for part in ("disentanglement", "completeness", "informativeness"):
        assert metrics["factor_scores"][part] > 0.95
    best = {code: max(nats, key=lambda name: nats[name]) for code, nats in metrics["information_by_factor"].items()}
    expected = zip(SPEC.code_names, ("shape", "y", "x", "rotation", "scale"), strict=True)
    assert best == dict(expected)


def test_random_codes_and_codes_that_mix_two_factors_have_low_scores() -> None:
    random = metrics_of(torch.arange(IMAGES) % 3, torch.rand(IMAGES, 4, generator=torch.Generator().manual_seed(0)))
    assert random["factor_scores"]["mig"] < 0.02
    assert random["factor_scores"]["factor_vae"] < 0.4  # chance is 1/5
    _, scale, rotation, x, y = ((truth() - truth().mean(0)) / truth().std(0)).T
    mixed = torch.stack((scale + rotation, scale - rotation, x + y, x - y), dim=1)
    assert (
        metrics_of(truth()[:, 0].long(), mixed)["factor_scores"]["mig"] < 0.35
    )  # only the shape has a code without other factors


def test_floors_are_the_scores_of_initial_networks_and_of_chance() -> None:
    config = tiny("x", "data={name: sprites, image_size: 28}", "latents={categorical: [3], continuous: 4}")
    networks = build_networks(config)
    for network in networks.named().values():
        network.eval()
    model = EvaluatedModel(networks.G_ema, networks.FE, networks.Q, config, None)
    reals = Reals.open(DataConfig(name="sprites"), most_train=10, most_test=500)
    with Group(ONE_PROCESS, 1, ProcessesConfig()) as group:
        floors, initial = factor_floors(model, reals, group)["factor_floors"], factor_scores(model, reals, group)
    assert floors["untrained FE and Q"] == initial["factor_scores"]
    assert floors["random codes"]["mig"] < 0.05
    assert floors["random codes"]["factor_vae"] < 0.4  # chance is 1/5


def test_a_run_on_sprites_has_factor_scores_and_one_on_digits_has_none(tmp_path: Path) -> None:
    latents = "latents={noise: [{dim: 4}], categorical: [3], continuous: 2}"
    for name, held_out in (("sprites", 300), ("mnist-mini", 0)):
        train(
            tiny(
                tmp_path / name,
                f"data={{name: {name}, image_size: 28, held_out: {held_out}}}",
                latents,
                "train.steps=2",
            ),
            ONE_PROCESS,
        )
        options = EvaluateOptions((tmp_path / name,), controls=name == "sprites", out=tmp_path / f"{name}.json")
        evaluate(options, ONE_PROCESS)
    scored, not_scored = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("sprites", "mnist-mini"))
    assert set(scored["information_by_factor"]) == {"categorical_0", "continuous_0", "continuous_1"}
    assert 0 <= scored["factor_scores"]["factor_vae"] <= 1
    assert "code_error" not in scored
    assert {*scored["factor_floors"]} == {"untrained FE and Q", "random codes"}
    printed = "\n".join(run_report(scored))
    assert "random codes: MIG 0.0" in printed
    assert "not dSprites" in printed
    assert "SAP" not in printed, "the predictability gap has no linear SVM"
    assert "not dSprites" not in "\n".join(run_report(not_scored))
    assert "factor_scores" not in not_scored
