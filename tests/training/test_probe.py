from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from infogan_dist.config.model import NoiseConfig
from infogan_dist.latents import LatentSpec
from infogan_dist.training.probe import Probe, derived
from tests.conftest import tensors_of, tiny
from tests.training.test_step import batch_of, changed, plain_state

SPEC = LatentSpec((NoiseConfig(dim=2),), (4,), 0)


def test_probe_changes_no_state_and_measures_class_usage() -> None:
    state = plain_state(tiny("x"))
    before = {name: tensors_of(network) for name, network in state.networks.named().items()}
    numbers = {key: value.item() for key, value in Probe(state, seed=0)([batch_of(tiny("x"))]).items()}
    assert not any(changed(network, before[name]) for name, network in state.networks.named().items())
    assert sum(value for key, value in numbers.items() if key.startswith("usage/categorical_0/")) == pytest.approx(1)
    assert sum(value for key, value in numbers.items() if key.startswith("usage/categorical_1/")) == pytest.approx(1)
    assert numbers["health/diversity"] > 0
    assert 0 < numbers["score/fake_after_G"] < 1


@pytest.mark.parametrize(("sees", "varies"), [("noise", True), ("categorical_0", False), ("other codes", True)])
def test_generator_with_one_image_per_class_has_no_diversity(sees: str, varies: bool) -> None:
    state = plain_state(tiny("x"))
    probe = Probe(state, seed=0)
    classes = slice(state.spec.noise_dim, state.spec.noise_dim + state.spec.categorical[0])
    seen = {"noise": slice(classes.start), "categorical_0": classes, "other codes": slice(classes.stop, None)}[sees]

    class Sees(nn.Module):
        def forward(self, latent: torch.Tensor) -> torch.Tensor:
            part = latent[:, seen]
            mean = (part * torch.arange(1.0, part.shape[1] + 1)).mean(1)
            return mean[:, None, None, None].expand(-1, 1, 28, 28)

    state.networks.G_ema = Sees()
    assert (probe.diversity().item() > 0.1) == varies
    if not varies:
        assert probe.diversity().item() == pytest.approx(0, abs=1e-6)


def test_usage_entropy_is_ln_k_for_equal_use_and_less_otherwise() -> None:
    scores = {"score/real": 0.7, "score/fake_before_G": 0.4}
    alike = derived(scores | {f"usage/categorical_0/{k}": 0.25 for k in range(4)}, SPEC)
    assert alike == pytest.approx({"health/score_gap": 0.3, "health/usage_entropy/categorical_0": math.log(4)})
    lagging = derived(
        scores | {f"usage/categorical_0/{k}": share for k, share in enumerate((0.5, 0.25, 0.25, 0.0))}, SPEC
    )
    assert lagging["health/usage_entropy/categorical_0"] == pytest.approx(1.5 * math.log(2))
