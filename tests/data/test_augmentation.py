from __future__ import annotations

import pytest
import torch
from torch import Tensor

from infogan_dist.config.model import AugmentationConfig
from infogan_dist.data.augmentation import NORMALS, RECTANGLE, UNIFORMS, WARP, Augmentation, draws_at
from infogan_dist.randomness import Stream

STILL = AugmentationConfig(warp=0)
ONE = torch.tensor(1.0)
MIDDLE = 0.5  # the uniform number that leaves a strength at zero


def digits(count: int = 4, size: int = 28) -> Tensor:
    """Images with a square of ink at another place in each, [-1, 1]."""
    images = -torch.ones(count, 1, size, size, dtype=torch.float64)
    for number in range(count):
        images[number, 0, 8 + number : 14 + number, 10:16] = 1
    return images


def still(count: int = 4) -> Tensor:
    """Random numbers of a view that changes nothing but where it is asked to."""
    return torch.cat([torch.full((count, UNIFORMS), MIDDLE), torch.zeros(count, NORMALS)], dim=1).double()


def test_a_view_of_no_strength_is_the_image() -> None:
    torch.testing.assert_close(Augmentation(AugmentationConfig(warp=1), still(), ONE)(digits()), digits())
    drawn = draws_at(Stream(0, "views"), torch.arange(4))
    torch.testing.assert_close(Augmentation(STILL, drawn, ONE)(digits()), digits())


def test_a_shift_moves_the_ink_by_its_pixels() -> None:
    draws = still()
    draws[:, 5] = 1.0  # a whole shift to the right of where a pixel is read
    moved = Augmentation(AugmentationConfig(warp=1, shift=2 * 3 / 28), draws, ONE)(digits())  # half a side is 1
    torch.testing.assert_close(moved, digits().roll(-3, dims=3), rtol=0, atol=1e-6)


def test_a_quarter_turn_turns_and_a_scale_scales() -> None:
    turn = still()
    turn[:, 1] = 1.0
    turned = Augmentation(AugmentationConfig(warp=1, rotation=torch.pi / 2), turn, ONE)(digits())
    torch.testing.assert_close(turned, digits().rot90(dims=(2, 3)), rtol=0, atol=1e-6)
    grow = still()
    grow[:, 2] = 0.0
    large = Augmentation(AugmentationConfig(warp=1, scale=0.6931471805599453), grow, ONE)(
        digits()
    )  # reads at half: twice the size
    assert ((large + 1) / 2).sum() == pytest.approx(4 * ((digits() + 1) / 2).sum().item(), rel=0.02)


def test_cuts_take_away_and_pastes_add_what_the_other_of_the_pair_has() -> None:
    bright, dark = torch.ones(4, 1, 28, 28).double(), -torch.ones(4, 1, 28, 28).double()
    draws = still()
    draws[:, [WARP, WARP + RECTANGLE]] = 0.0  # certainly
    cut = Augmentation(AugmentationConfig(warp=0, cut=1), draws, ONE)(bright)
    cut = cut.round(decimals=6)
    assert set(cut.unique().tolist()) == {-1.0, 1.0}
    taken = (cut == -1).sum((1, 2, 3))
    assert ((taken >= 4 * 4) & (taken <= 9 * 9)).all()
    pairs = torch.stack([bright[0], dark[0], dark[0], dark[0]])
    pasted = Augmentation(AugmentationConfig(warp=0, paste=1), draws, ONE)(pairs).round(decimals=6)
    assert 4 * 4 <= (pasted[1] == 1).sum() <= 12 * 12  # from the bright one beside it
    assert (pasted[2:] == -1).all()
    assert (pasted[0] == 1).all()


@pytest.mark.parametrize(("strength", "expected"), [(1.0, 0.5), (0.5, 0.25), (0.0, 0.0)])
def test_strength_scales_how_often_an_image_is_cut(strength: float, expected: float) -> None:
    draws = draws_at(Stream(3, "views"), torch.arange(4000))
    cut = Augmentation(AugmentationConfig(warp=0, cut=0.5), draws, torch.tensor(strength))(torch.ones(4000, 1, 28, 28))
    assert (cut.amin((1, 2, 3)) < 0).float().mean().item() == pytest.approx(expected, abs=0.03)


def test_a_view_depends_on_the_position_alone_and_keeps_the_precision() -> None:
    config = AugmentationConfig(cut=0.5, paste=0.5)
    images = torch.rand(12, 1, 28, 28) * 2 - 1
    whole = Augmentation(config, draws_at(Stream(0, "views"), torch.arange(100, 112)), ONE)(images)
    parts = [
        Augmentation(config, draws_at(Stream(0, "views"), torch.arange(100 + n, 104 + n)), ONE)(images[n : n + 4])
        for n in (0, 4, 8)
    ]
    assert torch.equal(whole, torch.cat(parts))
    assert not torch.equal(whole[:4], images[:4])
    assert whole.min() >= -1
    assert whole.max() <= 1
    assert (
        Augmentation(config, draws_at(Stream(0, "views"), torch.arange(12)), ONE)(images.bfloat16()).dtype
        == torch.bfloat16
    )


def test_a_view_is_differentiable() -> None:
    draws = draws_at(Stream(1, "views"), torch.arange(2)).double()
    view = Augmentation(AugmentationConfig(warp=1, cut=0.5, paste=0.5), draws, ONE)
    images = (torch.rand(2, 1, 8, 8, dtype=torch.float64) * 2 - 1).requires_grad_()
    assert torch.autograd.gradcheck(view, (images,))
