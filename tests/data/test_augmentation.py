from __future__ import annotations

import pytest
import torch
from torch import Tensor

from infogan_dist.config.model import AUGMENTATIONS, AugmentationConfig
from infogan_dist.data.augmentation import NORMALS, RECTANGLE, UNIFORMS, WARP, Augmentation, draws_at
from infogan_dist.randomness import Stream

ONE = torch.tensor(1.0)
MIDDLE = 0.5  # the uniform number for which a warp does nothing


def only(**settings: float) -> AugmentationConfig:
    """These augmentations and no others."""
    return AugmentationConfig(**AUGMENTATIONS["none"] | settings)


def digits(count: int = 4, size: int = 28) -> Tensor:
    """Images in [-1, 1] with a white square at a different position in each."""
    images = -torch.ones(count, 1, size, size, dtype=torch.float64)
    for number in range(count):
        images[number, 0, 8 + number : 14 + number, 10:16] = 1
    return images


def still(count: int = 4) -> Tensor:
    """Random numbers of an augmentation that does not change images."""
    return torch.cat([torch.full((count, UNIFORMS), MIDDLE), torch.zeros(count, NORMALS)], dim=1).double()


def test_augmentation_of_strength_zero_is_the_identity() -> None:
    torch.testing.assert_close(Augmentation(only(warp=1), still(), ONE)(digits()), digits())
    drawn = draws_at(Stream(0, "views"), torch.arange(4))
    torch.testing.assert_close(Augmentation(only(), drawn, ONE)(digits()), digits())


def test_shift_moves_the_image_by_its_pixels() -> None:
    draws = still()
    draws[:, 5] = 1.0  # the largest shift to the right
    moved = Augmentation(only(warp=1, shift=2 * 3 / 28), draws, ONE)(digits())  # half a side is 1
    torch.testing.assert_close(moved, digits().roll(-3, dims=3), rtol=0, atol=1e-6)


def test_rotation_rotates_and_scale_enlarges() -> None:
    rotation = still()
    rotation[:, 1] = 1.0
    rotated = Augmentation(only(warp=1, rotation=torch.pi / 2), rotation, ONE)(digits())
    torch.testing.assert_close(rotated, digits().rot90(dims=(2, 3)), rtol=0, atol=1e-6)
    scale = still()
    scale[:, 2] = 0.0
    large = Augmentation(only(warp=1, scale=0.6931471805599453), scale, ONE)(digits())  # twice the size
    assert ((large + 1) / 2).sum() == pytest.approx(4 * ((digits() + 1) / 2).sum().item(), rel=0.02)


def test_cut_removes_a_rectangle_and_paste_copies_one_from_the_pair() -> None:
    bright, dark = torch.ones(4, 1, 28, 28).double(), -torch.ones(4, 1, 28, 28).double()
    draws = still()
    draws[:, [WARP, WARP + RECTANGLE]] = 0.0  # always below the share
    cut = Augmentation(only(cut=1), draws, ONE)(bright)
    cut = cut.round(decimals=6)
    assert set(cut.unique().tolist()) == {-1.0, 1.0}
    removed = (cut == -1).sum((1, 2, 3))
    assert ((removed >= 4 * 4) & (removed <= 9 * 9)).all()
    pairs = torch.stack([bright[0], dark[0], dark[0], dark[0]])
    pasted = Augmentation(only(paste=1), draws, ONE)(pairs).round(decimals=6)
    assert 4 * 4 <= (pasted[1] == 1).sum() <= 12 * 12  # from the bright image of its pair
    assert (pasted[2:] == -1).all()
    assert (pasted[0] == 1).all()


@pytest.mark.parametrize(("strength", "expected"), [(1.0, 0.5), (0.5, 0.25), (0.0, 0.0)])
def test_strength_scales_the_share_of_cuts(strength: float, expected: float) -> None:
    draws = draws_at(Stream(3, "views"), torch.arange(4000))
    cut = Augmentation(only(cut=0.5), draws, torch.tensor(strength))(torch.ones(4000, 1, 28, 28))
    assert (cut.amin((1, 2, 3)) < 0).float().mean().item() == pytest.approx(expected, abs=0.03)


def test_augmentation_depends_only_on_the_position_and_keeps_the_dtype() -> None:
    config = AugmentationConfig()
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


def test_augmentation_is_differentiable() -> None:
    draws = draws_at(Stream(1, "views"), torch.arange(2)).double()
    augmentation = Augmentation(AugmentationConfig(warp=1), draws, ONE)
    images = (torch.rand(2, 1, 8, 8, dtype=torch.float64) * 2 - 1).requires_grad_()
    assert torch.autograd.gradcheck(augmentation, (images,))
