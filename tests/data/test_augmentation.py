from __future__ import annotations

import pytest
import torch
from torch import Tensor

from infogan_dist.config.augmentation import AUGMENTATIONS, HIDDEN, AugmentationConfig
from infogan_dist.data.augmentation import (
    COLOUR,
    CROP,
    NORMALS,
    RECTANGLE,
    UNIFORMS,
    WARP,
    Augmentation,
    border_colour,
    draws_at,
)
from infogan_dist.randomness import Stream

ONE = torch.tensor(1.0)
MIDDLE = 0.5  # the uniform number for which a warp does nothing


def only(**settings: float | str) -> AugmentationConfig:
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


OBJECTS = AugmentationConfig(preset="objects", **AUGMENTATIONS["objects"])


def still_object(count: int = 2) -> Tensor:
    """Random numbers of crops and colours as well, that change nothing but where they are asked to."""
    return torch.cat([still(count), torch.full((count, CROP + COLOUR), MIDDLE).double()], dim=1)


def colours(count: int = 2, size: int = 8) -> Tensor:
    """Random colour images [count, 3, size, size] in [-0.5, 0.5]."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 3, size, size, dtype=torch.float64, generator=generator) - 0.5


FLIP, CROPPED, SIDE, X, Y, BRIGHT, CONTRAST, SATURATION, HUE, GREY = range(UNIFORMS + NORMALS, UNIFORMS + NORMALS + 10)


def test_the_numbers_of_digits_do_not_depend_on_those_only() -> None:
    digits_only, with_objects = (
        draws_at(Stream(0, "views"), torch.arange(8), config) for config in (AugmentationConfig(), OBJECTS)
    )
    assert digits_only.shape[1] == UNIFORMS + NORMALS
    assert torch.equal(with_objects[:, : UNIFORMS + NORMALS], digits_only)
    assert with_objects.shape[1] == UNIFORMS + NORMALS + CROP + COLOUR


def test_every_preset_sets_every_value_and_says_what_it_hides() -> None:
    keys = set(AugmentationConfig.model_fields) - {"preset"}
    assert all(set(values) == keys for values in AUGMENTATIONS.values())
    assert set(HIDDEN) == set(AUGMENTATIONS)


def test_a_flip_mirrors_and_a_crop_enlarges_a_part() -> None:
    draws = still_object()
    draws[:, FLIP] = 0.0
    torch.testing.assert_close(Augmentation(only(flip=0.5), draws, ONE)(colours()), colours().flip(3))
    draws[:, [CROPPED, SIDE]] = 0.0  # 0.6 of a side
    draws[:, [X, Y]] = 0.0  # of the left top
    draws[:, FLIP] = 1.0
    ramp = torch.linspace(-1, 1, 20, dtype=torch.float64).expand(2, 3, 20, 20)
    cropped = Augmentation(only(crop=0.5, outside="border"), draws, ONE)(ramp)
    # outer pixel centres are half a pixel inside: the part reaches from 0 to 0.6 of the ramp's 20 pixels
    assert cropped[0, 0, 0, 0].item() == pytest.approx(-1, abs=0.02)
    assert cropped[0, 0, 0, -1].item() == pytest.approx(-1 + 2 * (0.6 * 20 - 0.8) / 19, abs=0.02)


def test_a_warp_of_objects_shows_the_border_and_a_cut_its_colour() -> None:
    grey = torch.full((2, 3, 8, 8), 0.2, dtype=torch.float64)
    config = AugmentationConfig(preset="objects", **{**AUGMENTATIONS["objects"], "warp": 1, "jitter": 0, "hue": 0})
    drawn = draws_at(Stream(0, "views"), torch.arange(2), config).double()
    torch.testing.assert_close(Augmentation(config, drawn, ONE)(grey), grey, rtol=0, atol=1e-6)
    framed = torch.full((2, 3, 28, 28), 0.4, dtype=torch.float64)
    framed[:, :, 1:-1, 1:-1] = -0.8
    assert border_colour(framed).flatten().tolist() == pytest.approx([0.4] * 6)
    draws = still_object()
    draws[:, WARP] = 0.0
    cut = Augmentation(only(cut=1, outside="border"), draws, ONE)(framed).round(decimals=6)
    assert set(cut.unique().tolist()) == {0.4, -0.8}
    assert (cut == 0.4).sum() > (framed == 0.4).sum()


def test_colours_change_as_asked_and_grey_has_none() -> None:
    draws = still_object()
    torch.testing.assert_close(
        Augmentation(only(jitter=0.4, hue=0.3, grey=0.2), draws, ONE)(colours()), colours(), rtol=0, atol=1e-5
    )
    draws[:, GREY] = 0.0
    grey = Augmentation(only(grey=0.5), draws, ONE)(colours())
    luma = torch.einsum("c,bchw->bhw", torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64), colours())
    torch.testing.assert_close(grey, luma[:, None].expand_as(grey), rtol=0, atol=1e-3)
    draws = still_object()
    draws[:, BRIGHT] = 1.0
    brighter = Augmentation(only(jitter=0.1), draws, ONE)(colours())
    torch.testing.assert_close((brighter + 1) / 2, 1.1 * (colours() + 1) / 2, rtol=0, atol=1e-5)
    turned = still_object()
    turned[:, HUE] = 1.0
    hue = Augmentation(only(hue=0.3), turned, ONE)(colours())
    assert not torch.allclose(hue, colours(), atol=0.01)
    assert torch.allclose(torch.einsum("c,bchw->bhw", luma.new_tensor([0.299, 0.587, 0.114]), hue), luma, atol=1e-3)


def test_objects_work_on_grey_images_in_half_precision_and_differentiably() -> None:
    drawn = draws_at(Stream(0, "views"), torch.arange(4), OBJECTS)
    images = (torch.rand(4, 1, 8, 8) * 2 - 1).bfloat16()
    view = Augmentation(OBJECTS, drawn, ONE)(images)
    assert view.dtype == torch.bfloat16
    assert view.min() >= -1
    assert view.max() <= 1
    still_view = Augmentation(OBJECTS, draws_at(Stream(0, "views"), torch.arange(2), OBJECTS).double(), ONE)
    assert torch.autograd.gradcheck(still_view, (0.3 * colours().requires_grad_(),))
