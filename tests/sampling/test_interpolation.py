from __future__ import annotations

import pytest
import torch

from infogan_dist.config.model import NoiseConfig
from infogan_dist.latents import LatentSpec
from infogan_dist.randomness import Stream
from infogan_dist.sampling.interpolation import from_normal, noise_path, to_normal

SPEC = LatentSpec((NoiseConfig(dim=3000), NoiseConfig(dim=2000, distribution="normal")), (3,), 0)


def noises(count: int) -> torch.Tensor:
    return SPEC.draw(Stream(0, "test"), torch.arange(count)).noise


def test_a_path_goes_from_seed_to_seed_exactly() -> None:
    ends = noises(3)
    path = noise_path(ends, 9, SPEC)
    assert torch.equal(path[[0, 4, 8]], ends)
    assert len(path.unique(dim=0)) == 9


def test_every_point_of_a_path_is_distributed_as_in_training() -> None:
    for point in noise_path(noises(2), 5, SPEC):
        uniform, normal = point.split([3000, 2000])
        assert uniform.abs().max() <= 1
        assert uniform.var().item() == pytest.approx(1 / 3, rel=0.06)
        assert normal.var().item() == pytest.approx(1, rel=0.1)


def test_a_path_is_smooth() -> None:
    steps = noise_path(noises(2), 60, SPEC).diff(dim=0).norm(dim=1)
    assert steps.max() < 1.5 * steps.min()


def test_normal_numbers_of_noise_and_back() -> None:
    drawn = noises(1).double()
    normal = to_normal(drawn, SPEC)
    assert normal[0, :3000].var().item() == pytest.approx(1, rel=0.06)
    assert torch.allclose(from_normal(normal, SPEC), drawn, atol=1e-9)
    edges = torch.ones(1, SPEC.noise_dim)
    assert to_normal(torch.cat([edges, -edges]).double(), SPEC).isfinite().all()
