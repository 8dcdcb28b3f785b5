from __future__ import annotations

import pytest
import torch

from infogan_dist.config.model import NoiseConfig
from infogan_dist.errors import UserError
from infogan_dist.latents import Latents, LatentSpec
from infogan_dist.randomness import Stream
from infogan_dist.sampling.traversal import Axis, all_codes, code_axis, near_square, noise_axis, traversal

SPEC = LatentSpec((NoiseConfig(dim=5),), (3,), 2)
HELD = SPEC.draw(Stream(0, "test"), torch.arange(1))


def axis(name: str, count: int = 4, low: float = -1, high: float = 1) -> Axis:
    return code_axis(SPEC, name, count, (low, high), lambda code, number: f"{code[:3]} {number}")


def others_held(latents: Latents, *swept: str) -> bool:
    kept = [
        latents.noise,
        *(latents.codes.categorical[:, i] for i, name in enumerate(SPEC.categorical_names) if name not in swept),
        *(latents.codes.continuous[:, i] for i, name in enumerate(SPEC.continuous_names) if name not in swept),
    ]
    return all(torch.equal(each, each[:1].expand_as(each)) for each in kept)


def test_one_code_is_a_row_with_all_else_held() -> None:
    planned = traversal(SPEC, HELD, [axis("continuous_1", low=-2, high=2)])
    assert planned.latents.codes.continuous[:, 1].tolist() == pytest.approx([-2, -2 / 3, 2 / 3, 2])
    assert others_held(planned.latents, "continuous_1")
    assert torch.equal(planned.latents.noise[0], HELD.noise[0])
    sheet = planned.sheet("title")
    assert (list(sheet.cells), sheet.columns) == ([0, 1, 2, 3], 4)
    assert list(sheet.captions.columns) == ["-2.00", "-0.67", "0.67", "2.00"]
    assert sheet.captions.column_axis == "continuous_1"


def test_two_codes_are_a_sheet_the_first_down_the_second_across() -> None:
    planned = traversal(SPEC, HELD, [axis("categorical_0"), axis("continuous_0")])
    codes = planned.latents.codes
    assert codes.categorical[:, 0].view(3, 4).tolist() == [[number] * 4 for number in range(3)]
    assert torch.equal(codes.continuous[:, 0].view(3, 4), torch.linspace(-1, 1, 4).expand(3, 4))
    assert others_held(planned.latents, "categorical_0", "continuous_0")
    assert list(planned.sheet("").captions.rows) == ["cat 0", "cat 1", "cat 2"]


def test_all_codes_are_a_row_each() -> None:
    planned = all_codes(SPEC, HELD, 4, (-1, 1), lambda _, number: str(number))
    sheet = planned.sheet("")
    assert list(sheet.captions.rows) == ["categorical_0", "continuous_0", "continuous_1"]
    assert list(sheet.cells) == [0, 1, 2, None, *range(3, 11)]
    assert list(sheet.captions.cells[:5]) == ["0", "1", "2", "", "-1.00"]
    continuous = planned.latents.codes.continuous[3:7]
    assert continuous[:, 0].tolist() == pytest.approx([-1, -1 / 3, 1 / 3, 1])
    assert torch.equal(continuous[:, 1], HELD.codes.continuous[0, 1].expand(4))
    with pytest.raises(UserError, match="no code to change"):
        all_codes(LatentSpec(SPEC.noise, (), 0), HELD, 4, (-1, 1), lambda *_: "")


def test_a_moving_picture_shows_one_image_of_each_row_at_a_time() -> None:
    planned = all_codes(SPEC, HELD, 6, (-1, 1), lambda _, number: str(number))
    assert planned.frames == 6
    first, last = planned.frame(0, "t"), planned.frame(5, "t")
    assert list(first.cells) == [0, 3, 9]
    assert list(last.cells) == [2, 8, 14]
    assert planned.frame(3, "t").cells[0] == 1  # a class is shown for two frames
    assert list(last.captions.cells) == ["categorical_0 = 2", "continuous_0 = 1.00", "continuous_1 = 1.00"]
    two = traversal(SPEC, HELD, [axis("categorical_0"), axis("continuous_0")]).frame(1, "t")
    assert list(two.cells) == [1, 5, 9]
    assert two.captions.column_axis == "continuous_0 = -0.33; below each image its categorical_0"
    assert list(two.captions.cells) == ["cat 0", "cat 1", "cat 2"]


def test_the_noise_goes_between_seeds_with_the_codes_held() -> None:
    noises = SPEC.draw(Stream(0, "other"), torch.arange(2)).noise
    planned = traversal(SPEC, HELD, [axis("categorical_0"), noise_axis(SPEC, noises, [3, 7], 5)])
    assert torch.equal(planned.latents.noise.view(3, 5, 5)[:, [0, 4]], noises.expand(3, 2, 5))
    assert torch.equal(planned.latents.codes.continuous, HELD.codes.continuous.expand(15, 2))
    assert list(planned.sheet("").captions.columns) == ["seed 3", "3 + 25%", "3 + 50%", "3 + 75%", "seed 7"]
    assert planned.frame(4, "").captions.column_axis.startswith("noise: seed 7")


def test_an_unknown_code_is_refused() -> None:
    with pytest.raises(UserError, match="there is no code slant; this model has categorical_0"):
        axis("slant")


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (2, 2), (3, 3), (7, 3), (10, 5), (12, 4), (13, 4)])
def test_frames_fill_their_rows_where_these_are_not_too_long(count: int, columns: int) -> None:
    assert near_square(count) == columns
