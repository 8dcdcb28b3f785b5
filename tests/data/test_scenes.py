from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from infogan_dist.config.model import DataConfig
from infogan_dist.data.scene_shapes import SHAPES
from infogan_dist.data.scenes import COUNT, HUES, SCALES, VIEWPOINTS, draw, factors_at
from infogan_dist.data.sources import open_images
from infogan_dist.evaluation.labels import known_factors
from infogan_dist.registry.data_sets import DATA_SETS

SCENES = DataConfig(name="scenes", image_size=32, channels=3)


def scene(size: int = 64, **factors: float) -> Tensor:
    """One scene as float64 [3, size, size] in [0, 255]."""
    values = {"floor_hue": 0, "wall_hue": 3, "object_hue": 6, "shape": 1, "scale": 0.8, "viewpoint": 0.0} | factors
    row = [float(values[name]) for name in DATA_SETS["scenes"].factors]
    return draw(torch.tensor([row], dtype=torch.float64), size)[0].double()


def changed(one: Tensor, other: Tensor) -> Tensor:
    """Which pixels differ, bool [H, W]."""
    return (one != other).any(0)


def test_an_image_depends_on_split_and_index_alone() -> None:
    train, test = (open_images(SCENES, split) for split in ("train", "test"))
    assert (len(train), len(test)) == (COUNT["train"], COUNT["test"])
    some = train.read(torch.tensor([7, 49_999, 7]))
    assert some.shape == (3, 3, 32, 32)
    assert some.dtype == torch.uint8
    assert torch.equal(some[0], some[2])
    assert torch.equal(some[1], train.read(torch.arange(49_850, 50_000))[-1])
    assert not torch.equal(some[0], test.read(torch.tensor([7]))[0])


def test_factors_are_even_and_independent() -> None:
    factors = factors_at("train", torch.arange(50_000))
    for column, count in zip(factors.T[:4], (HUES, HUES, HUES, len(SHAPES)), strict=True):
        assert (column.long().bincount(minlength=count) / 50_000 - 1 / count).abs().max() < 0.01
    for column, (low, high) in zip(factors.T[4:], (SCALES, VIEWPOINTS), strict=True):
        assert low <= column.min() <= low + 0.001 * (high - low)
        assert high >= column.max() >= high - 0.001 * (high - low)
    assert (factors.T.corrcoef() - torch.eye(6)).abs().max() < 0.02


def test_evaluation_knows_the_factors_of_each_test_image() -> None:
    indexes = torch.tensor([5, 17])
    known = known_factors(SCENES, "test", indexes)
    assert known is not None
    assert known.names == ("floor_hue", "wall_hue", "object_hue", "shape", "scale", "viewpoint")
    assert known.variables.discrete == (True, True, True, True, False, False)
    assert torch.equal(draw(known.variables.values, 32), open_images(SCENES, "test").read(indexes))


def test_each_hue_colours_its_own_surface() -> None:
    first = scene()
    floor, wall, object_ = (changed(first, scene(**{name: 9})) for name in ("floor_hue", "wall_hue", "object_hue"))
    assert floor[-1].all()
    assert wall[0].all()
    assert object_[38, 32]
    assert not (floor & wall & object_).any()
    both = (floor & wall) | (floor & object_) | (wall & object_)  # antialiased edges
    assert 0 < both.sum() < 0.1 * both.numel()
    assert (floor | wall | object_).all()


@pytest.mark.parametrize("shape", range(len(SHAPES)))
def test_the_object_is_within_the_image_and_its_area_grows_with_its_scale(shape: int) -> None:
    areas = []
    for scale in SCALES:
        for viewpoint in (*VIEWPOINTS, 0.0):
            factors = {"shape": shape, "scale": scale, "viewpoint": viewpoint}
            covered = changed(scene(**factors), scene(**factors, object_hue=1))
            border = torch.cat([covered[0], covered[-1], covered[:, 0], covered[:, -1]])
            assert not border.any()
        areas.append(covered.sum().item())
    assert areas[1] / areas[0] == pytest.approx((SCALES[1] / SCALES[0]) ** 2, rel=0.2)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_viewpoint_looks_different(shape: str) -> None:
    """A round object looks the same from everywhere, but the room and the light do not."""
    number = [*SHAPES].index(shape)
    views = [scene(shape=number, viewpoint=each) for each in torch.linspace(*VIEWPOINTS, 6).tolist()]
    assert all((one - other).abs().mean() > 1 for i, one in enumerate(views) for other in views[:i])


@pytest.mark.parametrize("name", SHAPES)
def test_rays_meet_a_shape_where_they_first_enter_it(name: str) -> None:
    """Compared with points along each ray, which are inside where the shape's slice says so."""
    shape = SHAPES[name]
    torch.manual_seed(0)
    angles = 2 * math.pi * torch.rand(2000)
    start = torch.stack([5 * angles.cos(), 1 + 2 * torch.rand(2000), 5 * angles.sin()])[:, None]
    ray = (torch.randn(3, 1, 2000) * 0.5 + torch.tensor([0, 0.8, 0])[:, None, None]) - start
    hit = shape.hit(start, ray)
    along = torch.linspace(0, 2, 1000)[:, None]
    x, y, z = (start[axis] + along * ray[axis] for axis in range(3))
    inside = (shape.slice_distance(y, x, z) < 0) & (y > 0) & (y < shape.height)
    first = torch.where(inside.any(0), along[inside.long().argmax(0), 0], torch.inf)
    hits = hit.distance[0].isfinite()
    assert 0.2 < hits.double().mean() < 0.9
    assert (hits == first.isfinite()).double().mean() > 0.98  # points miss the thinnest cuts
    both = hits & first.isfinite()
    gaps = first[both] - hit.distance[0, both]
    assert gaps.min() > -1e-5
    assert gaps.quantile(0.9) < 0.003
    normal, facing = hit.normal[:, 0, both], (hit.normal * ray).sum(0)[0, both]
    torch.testing.assert_close(normal.norm(dim=0), torch.ones_like(facing))
    assert (facing < 0).all()


def test_edges_are_antialiased() -> None:
    """A small image is the mean, in linear light, of a large one."""
    factors = factors_at("test", torch.arange(24))
    small, large = draw(factors, 32).double() / 255, draw(factors, 256).double() / 255
    error = (avg_pool2d(linear(large), 8) - linear(small)).abs()
    assert error.mean() < 0.002
    assert error.max() < 0.12  # a ninth: one of the rays of a pixel on an edge
    assert (linear(large)[..., 4::8, 4::8] - linear(small)).abs().max() > 0.3, "one ray a pixel would not do"


def linear(encoded: Tensor) -> Tensor:
    """IEC 61966-2-1."""
    return torch.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def test_the_object_casts_a_shadow_away_from_the_light() -> None:
    """The light is at the left: beside the object, only the floor at its right is dark."""
    light, covered = scene().sum(0), changed(scene(), scene(object_hue=1))
    beside = covered.any(1)[:, None] & changed(scene(), scene(floor_hue=9)) & ~covered
    darkest = [light[:, half][beside[:, half]].min() for half in (slice(0, 24), slice(40, 64))]
    assert darkest[1] < 0.9 * darkest[0]
