"""The objects of `scenes`, of about unit size: where rays hit them, and their horizontal slices, which cast the shadow.

Each is on the floor at the origin. Rays begin at `start` and have the direction `ray`, [3, N, P] each, with y up. Distances are
in lengths of `ray`, and infinite if a ray misses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Hit:
    """Distance [N, P], normal [3, N, P] of length 1, and which part of the surface, int64 [N, P]; parts meet in an edge."""

    distance: Tensor
    normal: Tensor
    part: Tensor


class Shape(Protocol):
    height: float

    def hit(self, start: Tensor, ray: Tensor) -> Hit:
        """Where rays that begin outside enter it."""

    def slice_distance(self, height: Tensor, x: Tensor, z: Tensor) -> Tensor:
        """Distance from the points (x, z) to its slice at `height`; negative inside."""


class Cube:
    """Rotated by 30 degrees, so that every viewpoint shows three faces."""

    height, half = 1.52, 0.76
    cos, sin = math.cos(math.pi / 6), math.sin(math.pi / 6)

    def hit(self, start: Tensor, ray: Tensor) -> Hit:
        start, ray = self._rotated(start, self.sin), self._rotated(ray, self.sin)
        low, high = vector(-self.half, 0, -self.half), vector(self.half, self.height, self.half)
        one, other = (low - start) / ray, (high - start) / ray
        distance, axis = torch.minimum(one, other).max(0)
        hits = (distance < torch.maximum(one, other).amin(0)) & (distance > 0)
        normal = torch.zeros_like(ray).scatter_(0, axis[None], 1.0) * -ray.sign()
        return Hit(_where(hits, distance), self._rotated(normal, -self.sin), axis)

    def slice_distance(self, height: Tensor, x: Tensor, z: Tensor) -> Tensor:
        x, _, z = self._rotated(torch.stack([x, torch.zeros_like(x), z]), self.sin)
        across, along = x.abs() - self.half, z.abs() - self.half
        return torch.hypot(across.clamp(min=0), along.clamp(min=0)) + torch.maximum(across, along).clamp(max=0)

    def _rotated(self, vectors: Tensor, sin: float) -> Tensor:
        x, y, z = vectors.unbind(0)
        return torch.stack([self.cos * x + sin * z, y, self.cos * z - sin * x])


class Cylinder:
    height, radius = 1.56, 0.74

    def hit(self, start: Tensor, ray: Tensor) -> Hit:
        flat = vector(1, 0, 1)
        side = _first_root(dot(ray, flat * ray), dot(start, flat * ray), dot(start, flat * start) - self.radius**2)
        at_side = start + _finite(side) * ray
        side = _where((at_side[1] > 0) & (at_side[1] < self.height), side)
        top = (self.height - start[1]) / ray[1]
        at_top = flat * (start + top * ray)
        top = _where((top > 0) & (dot(at_top, at_top) < self.radius**2), top)
        normal = torch.where(top < side, vector(0, 1, 0), flat * at_side / self.radius)
        return Hit(torch.minimum(side, top), normal, (top < side).long())

    def slice_distance(self, height: Tensor, x: Tensor, z: Tensor) -> Tensor:
        return torch.hypot(x, z) - self.radius


class Sphere:
    height, radius = 1.90, 0.95

    def hit(self, start: Tensor, ray: Tensor) -> Hit:
        start = start - vector(0, self.radius, 0)
        distance = _first_root(dot(ray, ray), dot(start, ray), dot(start, start) - self.radius**2)
        normal = (start + _finite(distance) * ray) / self.radius
        return Hit(distance, normal, torch.zeros_like(distance, dtype=torch.int64))

    def slice_distance(self, height: Tensor, x: Tensor, z: Tensor) -> Tensor:
        return torch.hypot(x, z) - (self.radius**2 - (height - self.radius).square()).clamp(min=0).sqrt()


class Cone:
    """x² + z² = k² (height - y)². A ray that is less steep than the side, as all of the camera's are, hits only one of the two nappes."""

    height, radius = 1.96, 0.98

    def hit(self, start: Tensor, ray: Tensor) -> Hit:
        metric, start = vector(1, -((self.radius / self.height) ** 2), 1), start - vector(0, self.height, 0)
        distance = _first_root(dot(ray, metric * ray), dot(start, metric * ray), dot(start, metric * start))
        where = start + _finite(distance) * ray
        hits = (where[1] < 0) & (where[1] > -self.height)
        normal = unit(metric * where)
        return Hit(_where(hits, distance), normal, torch.zeros_like(distance, dtype=torch.int64))

    def slice_distance(self, height: Tensor, x: Tensor, z: Tensor) -> Tensor:
        return torch.hypot(x, z) - self.radius * (1 - height / self.height)


SHAPES: dict[str, Shape] = {"cube": Cube(), "cylinder": Cylinder(), "sphere": Sphere(), "cone": Cone()}


def _first_root(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The smaller root of a t² + 2 b t + c, where a > 0; infinite without a positive one."""
    root = (-b - (b.square() - a * c).sqrt()) / a  # NaN without a real one
    return _where(root > 0, root)


def _where(hits: Tensor, distance: Tensor) -> Tensor:
    return torch.where(hits, distance, torch.inf)


def _finite(distance: Tensor) -> Tensor:
    return distance.nan_to_num(posinf=0.0)


def dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(0)


def unit(vectors: Tensor) -> Tensor:
    """The same directions with length 1; 0 remains 0. Along the leading dimension it is several times faster than F.normalize."""
    return vectors * dot(vectors, vectors).clamp(min=1e-12).rsqrt()


def vector(x: float, y: float, z: float) -> Tensor:
    return torch.tensor([x, y, z])[:, None, None]
