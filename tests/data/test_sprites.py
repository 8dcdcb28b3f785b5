from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from infogan_dist.config.model import DataConfig
from infogan_dist.data.sources import open_images
from infogan_dist.data.sprites import POSITIONS, ROTATIONS, SCALES, SHAPES, draw, factors_at
from infogan_dist.registry.data_sets import DATA_SETS


def ink_of(**factors: float) -> Tensor:
    """One sprite, float64 [64, 64] in [0, 1], in the middle by default."""
    middle = {"shape": 0.0, "scale": 0.2, "rotation": 0.0, "x": 0.5, "y": 0.5} | factors
    return (
        draw(torch.tensor([[middle[name] for name in DATA_SETS["sprites"].factors]], dtype=torch.float64), 64)[
            0, 0
        ].double()
        / 255
    )


def centre(ink: Tensor) -> tuple[float, float]:
    """The x and y of the centre of mass, from the top left, as a fraction of the image side."""
    along = (torch.arange(len(ink)).double() + 0.5) / len(ink)
    return ((ink.sum(0) * along).sum() / ink.sum()).item(), ((ink.sum(1) * along).sum() / ink.sum()).item()


def test_sprite_depends_only_on_split_and_index() -> None:
    train, test = (open_images(DataConfig(name="sprites"), split) for split in ("train", "test"))
    assert (len(train), len(test)) == (50_000, 10_000)
    some = train.read(torch.tensor([7, 49_999, 7]))
    assert some.shape == (3, 1, 28, 28)
    assert torch.equal(some[0], some[2])
    assert torch.equal(some[1], train.read(torch.arange(48_000, 50_000))[-1])
    assert not torch.equal(some[0], test.read(torch.tensor([7]))[0])


def test_factors_are_uniform_and_independent() -> None:
    factors = factors_at("train", torch.arange(50_000))
    assert (factors[:, 0].long().bincount() / 50_000 - 1 / len(SHAPES)).abs().max() < 0.01
    for column, (low, high) in zip(factors.T[1:], (SCALES, ROTATIONS, POSITIONS, POSITIONS), strict=True):
        assert low <= column.min() <= low + 0.001 * (high - low)
        assert high >= column.max() >= high - 0.001 * (high - low)
    assert (factors.T.corrcoef() - torch.eye(5)).abs().max() < 0.02


@pytest.mark.parametrize("size", [28, 64])
def test_every_sprite_is_inside_its_image(size: int) -> None:
    images = draw(factors_at("test", torch.arange(2000)), size)
    border = torch.cat([images[..., 0, :], images[..., -1, :], images[..., 0], images[..., -1]], dim=2)
    assert border.max() == 0
    assert (images.flatten(1).max(1).values == 255).all()


@pytest.mark.parametrize(("shape", "area"), [(0, 4 * 0.85**2), (1, math.pi / 2), (2, 0.85 * 1.8**2 / 1.8)])
def test_area_of_a_shape_grows_with_its_scale(shape: int, area: float) -> None:
    for scale in (0.15, 0.22):
        assert ink_of(shape=shape, scale=scale).mean().item() == pytest.approx(area * scale**2, rel=0.03)


def test_sprite_follows_its_factors() -> None:
    assert centre(ink_of(x=0.35, y=0.6)) == pytest.approx((0.35, 0.6), abs=0.001)
    ellipse = ink_of(shape=1)
    assert ellipse.sum(0).count_nonzero() > 1.8 * ellipse.sum(1).count_nonzero(), "wider than high"
    rotated = ink_of(shape=1, rotation=math.pi / 4)
    assert torch.allclose(rotated, rotated.T, atol=1e-6), "symmetric about the diagonal at 45 degrees"
    assert rotated.diagonal().sum() > 1.5 * rotated.flip(1).diagonal().sum(), "right end down"
    triangle = ink_of(shape=2)
    assert triangle[:32].sum() < triangle[32:].sum(), "upright"


def test_every_rotation_looks_different() -> None:
    for shape in range(len(SHAPES)):
        for rotation in torch.linspace(*ROTATIONS, 7)[1:-1].tolist():
            others = [ink_of(shape=shape, rotation=other) for other in (rotation - 0.2, rotation + 0.2)]
            assert all((ink_of(shape=shape, rotation=rotation) - other).abs().sum() > 5 for other in others)
