from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from infogan_dist.data.diff_augment import COLUMNS, diff_augment

COLOUR, TRANSLATION, CUTOUT = ["colour"], ["translation"], ["cutout"]
ALL = COLOUR + TRANSLATION + CUTOUT


def images(channels: int = 3, size: int = 16) -> Tensor:
    return torch.rand(2, channels, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 - 1


def middle(**changed: float) -> Tensor:
    """Random numbers that change no colour and move nothing, except for those given."""
    columns = [
        "choose colour",
        "choose translation",
        "choose cutout",
        "brightness",
        "saturation",
        "contrast",
        "down",
        "right",
        "row",
        "column",
    ]
    return torch.tensor([[changed.get(column, 0.5) for column in columns]] * 2, dtype=torch.float64)


def test_without_a_policy_or_with_middle_numbers_nothing_changes() -> None:
    assert torch.equal(diff_augment(images(), torch.rand(2, COLUMNS), []), images())
    torch.testing.assert_close(diff_augment(images(), middle(), COLOUR + TRANSLATION), images())


def test_colours_have_known_values() -> None:
    x, grey, mean = images(), images().mean(1, keepdim=True), images().mean((1, 2, 3), keepdim=True)
    brighter = diff_augment(x, middle(brightness=1.0), COLOUR)
    torch.testing.assert_close(brighter, x + 0.5)
    torch.testing.assert_close(diff_augment(x, middle(saturation=0.0), COLOUR), grey.expand_as(x))
    torch.testing.assert_close(diff_augment(x, middle(saturation=1.0), COLOUR), 2 * x - grey)
    torch.testing.assert_close(diff_augment(x, middle(contrast=0.0), COLOUR), mean + (x - mean) / 2)


@pytest.mark.parametrize(("drawn", "pixels"), [(0.0, -2), (0.21, -1), (0.5, 0), (0.999, 2)])
@pytest.mark.parametrize(("direction", "axis"), [("down", 2), ("right", 3)])
def test_translation_moves_by_at_most_an_eighth_and_leaves_zeros(
    direction: str, axis: int, drawn: float, pixels: int
) -> None:
    expected = images().roll(pixels, axis)
    left = expected.narrow(axis, 0, pixels) if pixels >= 0 else expected.narrow(axis, 16 + pixels, -pixels)
    left.zero_()
    torch.testing.assert_close(diff_augment(images(), middle(**{direction: drawn}), TRANSLATION), expected)


def test_cutout_removes_half_of_each_side_around_its_centre() -> None:
    expected, cut_off = images(), images()
    expected[:, :, 4:12, 4:12] = 0
    cut_off[:, :, :4, 12:] = 0
    assert torch.equal(diff_augment(images(), middle(), CUTOUT), expected)
    assert torch.equal(diff_augment(images(), middle(row=0.0, column=0.999), CUTOUT), cut_off)


def test_each_change_is_made_with_its_probability() -> None:
    draws = torch.rand(2000, COLUMNS, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x = images(1, 8).repeat(1000, 1, 1, 1)
    assert torch.equal(diff_augment(x, draws, ALL, torch.tensor(0.0)), x)
    for policy, certain in ((COLOUR, 1.0), (CUTOUT, 1.0), (TRANSLATION, 1 - 1 / 9)):  # 1 of 9 shifts is none
        changed = (diff_augment(x, draws, policy, torch.tensor(0.3)) != x).flatten(1).any(1)
        assert changed.double().mean().item() == pytest.approx(0.3 * certain, abs=0.04)
    by_policy = [(diff_augment(x, draws, policy, 0.3) != x).flatten(1).any(1) for policy in (COLOUR, CUTOUT)]
    assert (by_policy[0] & by_policy[1]).double().mean().item() == pytest.approx(0.09, abs=0.03)  # independent


def test_gradients_reach_the_images() -> None:
    draws = torch.rand(2, COLUMNS, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x = images(2, 6).requires_grad_()
    assert gradcheck(lambda x: diff_augment(x, draws, ALL), x)


def test_low_precision_images_are_changed_in_float32() -> None:
    draws = torch.rand(2, COLUMNS, generator=torch.Generator().manual_seed(1))
    low = images().bfloat16()
    assert torch.equal(diff_augment(low, draws, ALL), diff_augment(low.float(), draws, ALL).bfloat16())
