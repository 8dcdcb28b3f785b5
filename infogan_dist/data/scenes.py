"""`scenes`: one object in a room, in colour, drawn from six known factors.

After Shapes3D (Burgess & Kim 2018), but ray-cast here from the index of an image, and each image has its own independent factors
instead of a point of a grid. Points and directions are [3, N, P], for P rays in each of N images: x to the right, y up, z into the
room. Colours are in linear light until they are encoded.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from infogan_dist.config.model import DataConfig
from infogan_dist.data.scene_shapes import SHAPES, Shape, dot, unit, vector
from infogan_dist.data.sources import DrawnSource
from infogan_dist.randomness import Stream

COUNT = {"train": 50_000, "test": 10_000}
HUES = 10  # evenly spaced
SCALES = (0.62, 1.0)
VIEWPOINTS = (-math.pi / 6, math.pi / 6)
LIGHTNESS_AND_CHROMA = ((0.76, 0.11), (0.86, 0.09), (0.64, 0.17))  # of floor, wall and object, in OKLCH
EYE, TARGET = (0.0, 3.0, -6.0), (0.0, 0.78, 0.0)  # of the camera at viewpoint 0
VIEW = 0.31  # tangent of half the camera's angle of view
ROOM = 2.6  # half a side of the floor
LIGHT = (-0.45, 0.80, -0.40)  # direction from the object
AMBIENT, DIFFUSE, SPECULAR, SHININESS = 0.42, 0.66, 0.22, 40
SLICES = 8  # of an object; each shades the floor
PENUMBRA = (0.06, 0.30)  # width of the shadow's edge at height 0, and its growth with height
OCCLUSION = 0.30  # largest share of the ambient light that a floor or wall blocks at points near it
REACH = 0.45  # distance at which it blocks 1/e of that
SUBPIXELS = 3  # a side, if an edge passes through a pixel
LAB_TO_LMS = ((1, 0.3963377774, 0.2158037573), (1, -0.1055613458, -0.0638541728), (1, -0.0894841775, -1.2914855480))
LMS_TO_RGB = (  # both of OKLAB, Ottosson 2020
    (4.0767416621, -3.3077115913, 0.2309699292),
    (-1.2684380046, 2.6097574011, -0.3413193965),
    (-0.0041960863, -0.7034186147, 1.7076147010),
)
CHUNK = 2**17  # rays


def open_scenes(data: DataConfig, split: str) -> DrawnSource:
    size = data.image_size
    return DrawnSource(COUNT[split], lambda indexes: draw(factors_at(split, indexes), size), max(1, CHUNK // size**2))


def factors_at(split: str, indexes: Tensor) -> Tensor:
    """The factors of the images at `indexes`, float64 [N, 6]: hues of floor, wall and object (0 to 9), number of the shape, scale, and
    viewpoint (radians). Training never reads them."""
    stream = Stream(0, f"scenes/{split}")
    hues = stream.derived("hues").integers(indexes, 3, below=HUES).double()
    shapes = stream.derived("shape").integers(indexes, 1, below=len(SHAPES)).double()
    ranges = torch.tensor([SCALES, VIEWPOINTS], dtype=torch.float64)
    draws = stream.derived("others").uniform(indexes, len(ranges)).double()
    return torch.cat([hues, shapes, ranges[:, 0] + (ranges[:, 1] - ranges[:, 0]) * draws], dim=1)


def draw(factors: Tensor, size: int) -> Tensor:
    """Images of `factors`, float64 [N, 6], as uint8 [N, 3, size, size]."""
    images = torch.empty(len(factors), 3, size, size, dtype=torch.uint8)
    for number, shape in enumerate(SHAPES.values()):
        rows = factors[:, 3] == number
        if rows.any():
            light = _antialiased(shape, factors[rows], size)
            images[rows] = (255 * _encoded(light)).round().to(torch.uint8).transpose(0, 1)
    return images


def _antialiased(shape: Shape, factors: Tensor, size: int) -> Tensor:
    """Linear light [3, N, size, size]. One ray is cast through each corner of the pixels. A pixel has the mean colour of its four
    corners, or of SUBPIXELS² rays if the corners show different surfaces."""
    at = torch.linspace(-1, 1, size + 1)
    light, surface = _cast(shape, factors, at.repeat(size + 1)[None], at.repeat_interleave(size + 1)[None])
    image = torch.stack(_corners(light.unflatten(2, (size + 1, size + 1)))).mean(0)
    first, *others = _corners(surface.unflatten(1, (size + 1, size + 1)))
    number, row, column = torch.stack([first != other for other in others]).any(0).nonzero(as_tuple=True)
    within = (torch.arange(SUBPIXELS) + 0.5) * (2 / size / SUBPIXELS)
    right = at[column, None] + within.repeat(SUBPIXELS)
    down = at[row, None] + within.repeat_interleave(SUBPIXELS)
    image[:, number, row, column] = _cast(shape, factors[number], right, down)[0].mean(2)
    return image


def _corners(grid: Tensor) -> list[Tensor]:
    """The values [..., S, S] at the four corners of the pixels, of values [..., S + 1, S + 1]."""
    return [part for rows in (grid[..., :-1, :], grid[..., 1:, :]) for part in (rows[..., :-1], rows[..., 1:])]


def _cast(shape: Shape, factors: Tensor, right: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    """The light [3, N, P] along P rays of each of N images, and the number of the surface [N, P] that each ray hits: 0 is the floor, 1 to 3
    are walls, then the object's parts. `right` and `down`, [N or 1, P], are positions in the image, from -1 to 1."""
    scale, viewpoint = factors[:, 4:, None].float().unbind(1)
    eye, ray = _camera(viewpoint, right, down)
    hit = shape.hit(eye / scale, ray)
    distance, normal, surface = _room(eye, ray)
    on_object = hit.distance * scale < distance
    where = eye + torch.where(on_object, hit.distance * scale, distance) * ray
    normal = torch.where(on_object, hit.normal, normal)
    on_floor = (surface == 0) & ~on_object
    floor, wall, object_ = (
        _colours(*look)[:, hues, None] for look, hues in zip(LIGHTNESS_AND_CHROMA, factors[:, :3].long().T, strict=True)
    )
    albedo = torch.where(on_object, object_, torch.where(on_floor, floor, wall))
    sun = torch.where(on_floor, 1 - _shadow(shape, where / scale), 1.0)
    to_light = unit(vector(*LIGHT))
    half_way = unit(to_light - unit(ray))  # Blinn 1977
    diffuse = AMBIENT * _open(where) + DIFFUSE * sun * dot(normal, to_light).clamp(min=0)
    specular = torch.where(on_object, SPECULAR * dot(normal, half_way).clamp(min=0) ** SHININESS, 0.0)
    return albedo * diffuse + specular, torch.where(on_object, 4 + hit.part, surface)


def _camera(viewpoint: Tensor, right: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    """The camera's position, [3, N, 1], and the directions of the rays, [3, N, P]. The camera rotates around the object."""
    (_, height, z), target = EYE, vector(*TARGET)
    eye = torch.stack([-z * viewpoint.sin(), torch.full_like(viewpoint, height), z * viewpoint.cos()])
    ahead = unit(target - eye)
    across = torch.stack([viewpoint.cos(), torch.zeros_like(viewpoint), viewpoint.sin()])
    up = torch.linalg.cross(ahead, across, dim=0)
    return eye, ahead + VIEW * (right * across - down * up)


def _room(eye: Tensor, ray: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distance, normal and number of the floor or wall that each ray hits. The wall behind the camera is left out."""
    x, y, z = ray.unbind(0)
    distances = [-eye[1] / y, (-ROOM - eye[0]) / x, (ROOM - eye[0]) / x, (ROOM - eye[2]) / z]
    ahead = [y < 0, x < 0, x > 0, z > 0]
    distance, surface = torch.where(torch.stack(ahead), torch.stack(distances), torch.inf).min(0)
    normals = torch.tensor([[0.0, 1, 0], [1, 0, 0], [-1, 0, 0], [0, 0, -1]]).T
    return distance, normals[:, surface], surface


def _shadow(shape: Shape, where: Tensor) -> Tensor:
    """The share of the light that the object blocks at points of the floor: the darkest of the shadows of its slices."""
    x, y, z = LIGHT
    shadow = torch.zeros_like(where[0])
    for height in torch.linspace(0, shape.height, SLICES):
        distance = shape.slice_distance(height, where[0] + x / y * height, where[2] + z / y * height)
        shadow = torch.maximum(shadow, 0.5 - distance / (PENUMBRA[0] + PENUMBRA[1] * height))
    return shadow.clamp(max=1)


def _open(where: Tensor) -> Tensor:
    """The share of ambient light that reaches a point between floor and walls."""
    x, y, z = where.unbind(0)
    gaps = torch.stack([y, ROOM - x.abs(), ROOM - z]).clamp(min=0)
    return (1 - OCCLUSION * torch.exp(-gaps / REACH)).prod(0)


def _colours(lightness: float, chroma: float) -> Tensor:
    """Colours of HUES evenly spaced hues in linear light, [3, HUES], from OKLCH."""
    hue = 2 * math.pi * torch.arange(HUES) / HUES
    lab = torch.stack([torch.full_like(hue, lightness), chroma * hue.cos(), chroma * hue.sin()])
    return (torch.tensor(LMS_TO_RGB) @ (torch.tensor(LAB_TO_LMS) @ lab) ** 3).clamp(0, 1)


def _encoded(light: Tensor) -> Tensor:
    """sRGB values in [0, 1] of linear light (IEC 61966-2-1)."""
    light = light.clamp(0, 1)
    return torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
