from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from infogan_dist.config.running import ProcessesConfig
from infogan_dist.distributed.group import Group
from infogan_dist.evaluation.evaluated_model import EvaluatedModel
from infogan_dist.evaluation.metrics.continuous import (
    ATTRIBUTES,
    attributes,
    continuous_on_reals,
    correlations,
    effects,
    spearman,
)
from infogan_dist.evaluation.reals import Reals
from infogan_dist.evaluation.table import _strokes
from tests.conftest import ONE_PROCESS, tiny

SIZE = 28
FINER = 8  # subpixels per pixel and direction


def bar(width: float, height: float = 20, lean: float = 0.0, turn: float = 0.0) -> Tensor:
    """An antialiased bar [1, 1, 28, 28], sheared by `lean` columns per row towards the top, then rotated by `turn` radians."""
    grid = (torch.arange(SIZE * FINER).double() + 0.5) / FINER - SIZE / 2
    up, across = -grid[:, None], grid[None, :]
    along = up * math.cos(turn) + across * math.sin(turn)
    off = across * math.cos(turn) - up * math.sin(turn)
    inside = (along.abs() <= height / 2) & ((off - lean * along).abs() <= width / 2)
    ink = inside.double().view(SIZE, FINER, SIZE, FINER).mean((1, 3))
    return (2 * ink - 1)[None, None]


def measured(image: Tensor) -> dict[str, float]:
    return dict(zip(ATTRIBUTES, attributes(image)[0].tolist(), strict=True))


@pytest.mark.parametrize("width", [2, 4, 6])
def test_the_width_of_an_upright_bar_is_exact(width: int) -> None:
    found = measured(bar(width))
    assert found["width"] == pytest.approx(width)
    assert found["slant"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("lean", [-0.5, -0.2, 0.3, 0.6])
def test_the_slant_and_width_of_a_sheared_bar_are_measured(lean: float) -> None:
    found = measured(bar(4, height=16, lean=lean))
    assert found["slant"] == pytest.approx(math.atan(lean), abs=0.01)
    assert found["width"] == pytest.approx(4, rel=0.08)  # pixels blur the edges


@pytest.mark.parametrize("width", [2, 3, 5])
@pytest.mark.parametrize("turn", [0, 0.4, -0.4, math.pi / 4, math.pi / 2])
def test_thickness_does_not_depend_on_the_direction_of_the_stroke(width: int, turn: float) -> None:
    expected = width * 20 / (width + 20)  # area over half the outline
    assert measured(bar(width, turn=turn))["thickness"] == pytest.approx(expected, rel=0.13)


def test_brightness_and_channels_change_nothing_and_a_black_image_is_finite() -> None:
    full, faint = measured(bar(4, lean=0.3)), measured((bar(4, lean=0.3) + 1) / 4 - 1)
    assert faint == pytest.approx(full)
    assert measured(bar(4, lean=0.3).expand(1, 3, SIZE, SIZE)) == pytest.approx(full)
    assert attributes(torch.full((2, 1, SIZE, SIZE), -1.0)).isfinite().all()


def test_spearman_equals_scipys_and_is_0_for_a_constant_sweep() -> None:
    values = np.linspace(-1, 1, 9)
    sweeps = np.random.default_rng(0).integers(0, 5, (6, 9)).astype(np.float64)  # with ties
    expected = [stats.spearmanr(values, sweep).statistic for sweep in sweeps]
    np.testing.assert_allclose(spearman(values, sweeps), expected)
    np.testing.assert_array_equal(spearman(values, np.ones((2, 9))), [0, 0])


def test_a_code_that_shears_the_bar_changes_only_the_slant() -> None:
    values = torch.linspace(-1, 1, 9)
    sweep = torch.cat([bar(4, height=16, lean=0.5 * value) for value in values.tolist()])
    found = effects(values, attributes(torch.cat((sweep, sweep))))
    assert (found["slant"].strength, found["slant"].signed) == (1, 1)
    assert found["slant"].change == pytest.approx(2 * math.atan(0.5), abs=0.02)
    assert abs(found["width"].change) < 0.3
    assert abs(found["thickness"].change) < 0.3


def test_opposite_sweeps_have_strength_1_and_sign_0() -> None:
    values = torch.linspace(-1, 1, 5)
    wider = torch.cat([bar(width) for width in (2, 3, 4, 5, 6)])
    found = effects(values, attributes(torch.cat((wider, wider.flip(0)))))
    assert found["width"].strength == pytest.approx(1)
    assert found["width"].signed == pytest.approx(0, abs=1e-12)
    assert found["width"].change == pytest.approx(0, abs=1e-9)
    assert effects(values, attributes(wider.flip(0)))["thickness"].signed == pytest.approx(-1)


def test_within_labels_a_code_that_only_follows_the_label_has_correlation_0() -> None:
    labels = torch.arange(600) % 3
    measured = torch.rand(600, len(ATTRIBUTES), generator=torch.Generator().manual_seed(0)) + labels[:, None]
    perfect, opposite, useless, label = measured[:, 1], -(measured[:, 1] ** 3), torch.zeros(600), labels.float()
    rho = correlations(torch.stack((perfect, opposite, useless, label), dim=1), measured, labels)
    np.testing.assert_allclose(rho[:, 1], [1, -1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(rho[[0, 1]][:, [0, 2]], 0, atol=0.15)  # independent attributes
    np.testing.assert_array_equal(rho[2:], 0)
    over_all_labels = spearman(label.numpy(), measured.T.numpy())
    assert over_all_labels.min() > 0.9


class ReadsStrokes(torch.nn.Module):
    """FE and Q in one, whose first continuous code is the slant and whose second is a constant; logits are 0."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        slant, none = attributes(images)[:, 1:2].float(), torch.zeros(len(images), 10)
        return torch.cat((none, slant, none[:, :1], none[:, :2]), dim=1)


def test_codes_are_compared_with_the_strokes_of_test_digits(tmp_path: Path) -> None:
    config = tiny(tmp_path, "latents={noise: [{dim: 5, distribution: uniform}], categorical: [10], continuous: 2}")
    FE = ReadsStrokes()
    model = EvaluatedModel(FE, FE, torch.nn.Identity(), config, None)
    with Group(ONE_PROCESS, 1, ProcessesConfig()) as group:
        found = continuous_on_reals(model, Reals.open(config.data, 10, 400), group)["continuous_on_reals"]
    assert found["continuous_0"]["slant"] == pytest.approx(1)
    assert abs(found["continuous_0"]["thickness"]) < 0.5
    assert found["continuous_1"] == dict.fromkeys(ATTRIBUTES, 0)


def test_the_table_prints_a_slant_in_degrees_and_the_others_in_pixels() -> None:
    effect = {"change": math.radians(20), "strength": 0.953, "signed": 0.9}
    metrics = {
        "continuous_effect": {"continuous_0": dict.fromkeys(ATTRIBUTES, effect)},
        "continuous_on_reals": {"continuous_0": dict.fromkeys(ATTRIBUTES, -0.8)},
    }
    assert _strokes(metrics)[1].split(": ", 1)[1] == (
        "thickness +0.35 px (0.95; -0.80), slant +20.0° (0.95; -0.80), width +0.35 px (0.95; -0.80)"
    )
