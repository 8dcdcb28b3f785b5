from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from infogan_dist.evaluation.metrics.continuous import ATTRIBUTES, attributes, effects, spearman

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
