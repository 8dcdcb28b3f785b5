"""`sprites`: one white shape on black, drawn from five known factors, to measure whether codes encode factors.

Similar to dSprites (Matthey et al. 2017), but the factors of every image are drawn independently and uniformly instead of from a
grid, and every shape looks different at every rotation in the range.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from infogan_dist.config.model import DataConfig
from infogan_dist.data.sources import DrawnSource
from infogan_dist.randomness import Stream

SHAPES = ("square", "ellipse", "triangle")
COUNT = {"train": 50_000, "test": 10_000}
SCALES = (0.12, 0.22)  # as a fraction of the image side, like POSITIONS; every shape stays inside the image
ROTATIONS = (-math.pi / 4, math.pi / 4)
POSITIONS = (0.3, 0.7)
CHUNK = 1024  # images drawn at a time, to limit memory


def open_sprites(data: DataConfig, split: str) -> DrawnSource:
    return DrawnSource(COUNT[split], lambda indexes: draw(factors_at(split, indexes), data.image_size), CHUNK)


def factors_at(split: str, indexes: Tensor) -> Tensor:
    """The factors of the images at `indexes`, float64 [N, 5]: index of the shape, scale, rotation in radians, and the centre's
    x and y from the top left. Training never reads them."""
    stream = Stream(0, f"sprites/{split}")
    shapes = stream.derived("shape").integers(indexes, 1, below=len(SHAPES)).double()
    ranges = torch.tensor([SCALES, ROTATIONS, POSITIONS, POSITIONS], dtype=torch.float64)
    draws = stream.derived("others").uniform(indexes, len(ranges)).double()
    return torch.cat([shapes, ranges[:, 0] + (ranges[:, 1] - ranges[:, 0]) * draws], dim=1)


def draw(factors: Tensor, size: int) -> Tensor:
    """Draw images uint8 [N, 1, size, size] of `factors`, float64 [N, 5]. Edges are antialiased over one pixel."""
    _, scale, rotation, x, y = factors[:, :, None, None].unbind(1)
    centres = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    right, down = centres[None, None, :] - x, centres[None, :, None] - y
    u = (rotation.cos() * right + rotation.sin() * down) / scale
    v = (rotation.cos() * down - rotation.sin() * right) / scale
    distance = torch.empty_like(u)
    for number, distance_to in enumerate((_distance_to_square, _distance_to_ellipse, _distance_to_triangle)):
        selected = factors[:, 0] == number
        distance[selected] = distance_to(u[selected], v[selected])
    ink = (0.5 - distance * scale * size).clamp(0, 1)
    return (255 * ink).round().to(torch.uint8)[:, None]


def _distance_to_square(u: Tensor, v: Tensor) -> Tensor:
    """Signed distance of a point from the shape, negative inside."""
    return torch.maximum(u.abs(), v.abs()) - 0.85


def _distance_to_ellipse(u: Tensor, v: Tensor) -> Tensor:
    """The same for an ellipse twice as wide as high, to first order in the gradient of its equation."""
    radius = (u.square() + 4 * v.square()).sqrt()
    return (radius - 1) * radius / (u.square() + 16 * v.square()).sqrt().clamp(min=1e-9)


def _distance_to_triangle(u: Tensor, v: Tensor) -> Tensor:
    """The same for an upright isosceles triangle."""
    side, base = (1.8 * u.abs() - 0.85 * (v + 1)) / math.hypot(1.8, 0.85), v - 0.8
    return torch.maximum(side, base)
