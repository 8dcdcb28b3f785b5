from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from infogan_dist.config.model import NoiseConfig
from infogan_dist.latents import Latents, LatentSpec
from infogan_dist.sampling.grids import draw_all, fixed_grids, to_uint8, write_grid

NOISE = (NoiseConfig(dim=5),)


def test_a_row_per_class_with_the_same_z_down_each_column() -> None:
    grids = fixed_grids(LatentSpec(NOISE, (10, 3), 2), seed=0)
    assert list(grids) == ["", "continuous_0", "continuous_1"]
    grid = grids[""]
    z = grid.latents.noise.view(10, 10, 5)
    assert torch.equal(z, z[:1].expand_as(z))
    assert len(z[0].unique(dim=0)) == 10
    codes = grid.latents.codes
    assert torch.equal(codes.categorical[:, 0].view(10, 10), torch.arange(10)[:, None].expand(10, 10))
    assert not codes.categorical[:, 1].any()
    assert not codes.continuous.any()


def test_a_continuous_code_sweeps_across_with_z_held() -> None:
    grid = fixed_grids(LatentSpec(NOISE, (4,), 2), seed=0)["continuous_1"]
    levels = grid.latents.codes.continuous.view(4, 10, 2)
    assert torch.equal(levels[..., 1], torch.linspace(-1, 1, 10).expand(4, 10))
    assert not levels[..., 0].any()
    z = grid.latents.noise.view(4, 10, 5)
    assert torch.equal(z, z[:, :1].expand_as(z))
    assert len(z[:, 0].unique(dim=0)) == 4


def test_without_a_class_rows_are_fresh_z() -> None:
    grids = fixed_grids(LatentSpec(NOISE, (), 0), seed=0)
    assert list(grids) == [""]
    assert len(grids[""].latents.noise.unique(dim=0)) == 100


def test_pixels_are_rounded_and_clamped() -> None:
    assert to_uint8(torch.tensor([-1.0, 0.0, 1.0, -1.5, 2.0])).tolist() == [0, 128, 255, 0, 255]


def test_grids_name_their_rows_and_columns() -> None:
    grids = fixed_grids(LatentSpec(NOISE, (3,), 1), seed=0)
    words = grids[""].captions
    assert (words.row_axis, list(words.rows)) == ("categorical_0", ["0", "1", "2"])
    assert list(words.columns) == [str(number) for number in range(1, 11)]
    swept = grids["continuous_0"].captions
    assert (swept.column_axis, swept.columns[0], swept.columns[-1]) == ("continuous_0", "-1.00", "1.00")
    assert fixed_grids(LatentSpec(NOISE, (), 1), seed=0)["continuous_0"].captions.row_axis == "noise z"
    assert grids[""].titled("a run").title == "a run"
    assert grids[""].titled("a run").rows == words.rows


def test_all_images_are_drawn_in_their_order_whatever_the_batches() -> None:
    spec = LatentSpec(NOISE, (3,), 0)
    latents = Latents(torch.linspace(-1, 1, 70)[:, None].expand(70, 5), spec.neutral_codes(70))
    images = draw_all(
        lambda some: some.noise[:, :1, None, None].expand(-1, 1, 2, 2),
        latents,
        lambda batches, draw: torch.cat([draw(batch) for batch in batches]),
    )
    assert images.shape == (70, 1, 2, 2)
    assert images[:, 0, 0, 0].tolist() == to_uint8(torch.linspace(-1, 1, 70)).tolist()


def test_a_grid_without_captions_is_its_bare_pixels(tmp_path: Path) -> None:
    images = torch.arange(6, dtype=torch.uint8).mul(40)[:, None, None, None].expand(6, 3, 4, 4)
    write_grid(images, 3, tmp_path / "grid.png")
    picture = np.asarray(Image.open(tmp_path / "grid.png"))
    assert picture.shape == (8, 12, 3)
    assert picture[::4, ::4, 0].tolist() == [[0, 40, 80], [120, 160, 200]]
    write_grid(images, 3, tmp_path / "large.png", scale=2)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "large.png"))[::2, ::2], picture)
