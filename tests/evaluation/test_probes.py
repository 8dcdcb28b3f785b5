"""Known answers of the probes, and the features that they are fitted on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from infogan_dist.config.running import ProcessesConfig
from infogan_dist.data.sources import ArraySource, scaled
from infogan_dist.distributed.group import Group
from infogan_dist.evaluation.controls import feature_controls
from infogan_dist.evaluation.evaluated_model import EvaluatedModel
from infogan_dist.evaluation.probes import feature_networks, features, probes
from infogan_dist.evaluation.reals import Reals
from infogan_dist.networks import build_networks
from infogan_dist.randomness import Stream
from tests.conftest import ONE_PROCESS, tiny

LABELS = torch.arange(1000) % 10
FEW = torch.arange(200) % 10


def errors(train: Tensor, test: Tensor) -> list[float]:
    """The error of each probe on 200 images of ten classes, fitted on 1,000."""
    return [(each != FEW).double().mean().item() for each in probes(train, test, LABELS).values()]


def noise(name: str, count: int) -> Tensor:
    return Stream(0, name).normal(torch.arange(count), 10)


def test_probes_have_no_error_on_perfect_features_and_chance_on_useless_ones() -> None:
    pytest.importorskip("sklearn")
    one_hot = torch.eye(10)
    perfect = [one_hot[LABELS] + 0.1 * noise("a", 1000), one_hot[FEW] + 0.1 * noise("b", 200)]
    assert errors(*perfect) == [0, 0]
    assert errors(*(1e-4 * each for each in perfect)) == [0, 0], "at any scale"
    assert errors(noise("a", 1000), noise("b", 200)) == pytest.approx([0.9, 0.9], abs=0.06)
    assert errors(torch.zeros(1000, 10), torch.zeros(200, 10)) == pytest.approx([0.9, 0.9])


def test_features_are_what_Q_and_its_last_layer_read() -> None:
    config = tiny("x", "train.precision=fp32")
    networks = build_networks(config)
    for network in networks.named().values():
        network.eval()
    model = EvaluatedModel(networks.G_ema, networks.FE, networks.Q, config, None)
    source = ArraySource(Stream(0, "pixels").integers(torch.arange(70), 784, 256).view(70, 1, 28, 28).to(torch.uint8))
    with Group(ONE_PROCESS, 1, ProcessesConfig()) as group:
        found = {name: features(network, source, group) for name, network in feature_networks(model).items()}
    output = model.recognise(scaled(source.images))
    assert torch.allclose(networks.Q(found["FE"]), output, atol=1e-6)
    assert torch.allclose(networks.Q.posterior(found["Q's hidden layer"]), output, atol=1e-6)
    model.Q = nn.Linear(3, 4)
    assert list(feature_networks(model)) == ["FE"], "a Q of one layer has no hidden layer"


def test_without_labels_there_is_no_row() -> None:
    config = tiny("x")
    networks = build_networks(config)
    model = EvaluatedModel(networks.G_ema, networks.FE, networks.Q, config, None)
    source = ArraySource(torch.zeros(3, 1, 28, 28, dtype=torch.uint8))
    with Group(ONE_PROCESS, 1, ProcessesConfig()) as group:
        assert feature_controls(model, "x", Reals(config.data, source, source, None, None), group) == []
