"""Nearest neighbours of images in pixel space, without labels: the clustering term uses them as positives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2.functional import gaussian_blur, resize, rgb_to_grayscale

from infogan_dist.data.host_memory import release_freed_memory
from infogan_dist.data.sources import ImageSource
from infogan_dist.randomness import Stream

COUNT = 4  # neighbours per image
SIDE = 28  # pixels at which images are compared
BLUR = 1.0  # standard deviation of the blur, pixels
COMPONENTS = 80  # principal components
EXHAUSTIVE_LIMIT = 200_000  # images: in a data set of up to this size every image is compared with all others
PART_SIZE = 50_000  # images in a part of a larger set: about MNIST's size, on which the recipe was tuned
_READ = 256  # images in memory at their original size
_CHUNK = 4096  # images deskewed at a time
_ROWS = 1024  # images compared with all others at a time
_WORK = 64_216  # bytes that deskewing and blurring allocate at most for an image, measured

Result = TypeVar("Result")
Chunk = TypeVar("Chunk")


class Workers(Protocol):
    """The processes that share the search: a `distributed.Group`, or this process alone."""

    is_main: bool

    def on_main(self, action: Callable[[], Result]) -> Result:
        """Run `action` on one worker and return its result on all."""

    def map_chunks(self, count: int, compute: Callable[[int], Tensor], phase: str) -> Iterator[Tensor]:
        """Yield `compute` of each number below `count`, in order, on all workers. All results have one shape."""


class _SingleProcess:
    is_main = True

    def on_main(self, action: Callable[[], Result]) -> Result:
        return action()

    def map_chunks(self, count: int, compute: Callable[[int], Tensor], phase: str) -> Iterator[Tensor]:
        return map(compute, range(count))


def nearest_neighbours(source: ImageSource, count: int = COUNT, workers: Workers | None = None) -> Tensor:
    """The indices of the `count` nearest images of each image, int64 [N, count] on the CPU, nearest first. Fewer if N <= `count`.

    Images are deskewed, centred and blurred, and compared by their principal components. O(N²) up to EXHAUSTIVE_LIMIT images: one
    minute for MNIST's 60,000 on two cores. A larger set is split at random into parts of at most PART_SIZE images that are searched
    separately: O(N). The split does not depend on the run's seed. Every worker calls this and gets the same table, for any number
    of workers.
    """
    workers = workers or _SingleProcess()
    features = _features(source, workers)
    release_freed_memory()
    squares = features.square().sum(1)
    parts = _parts(len(source))
    count = min(count, min(map(len, parts)) - 1)
    chunks = [(part, rows) for part in parts for rows in torch.arange(len(part)).split(_ROWS)]

    def nearest(chunk: tuple[Tensor, Tensor]) -> Tensor:
        part, rows = chunk
        others = features[part]
        distances = torch.addmm(squares[part].expand(len(rows), -1), others[rows], others.T, alpha=-2)
        distances[torch.arange(len(rows)), rows] = torch.inf  # not itself
        return distances.topk(count, largest=False).indices

    neighbours = torch.empty(len(source), count, dtype=torch.int64)
    found = _map(workers, nearest, chunks, [len(rows) for _, rows in chunks], "comparing images")
    for (part, rows), indexes in zip(chunks, found, strict=True):
        neighbours[part[rows]] = part[indexes]
    return neighbours


def search_bytes(images: int) -> int:
    """The bytes that `nearest_neighbours` of this number of images allocates at most, on the worker that computes the directions."""
    compared = max(map(len, _parts(images)))
    rows, features = 4 * compared * SIDE**2, 4 * images * COMPONENTS
    return max(rows + _WORK * min(compared, _CHUNK), 2 * rows, 2 * features + 4 * _ROWS * compared)


def deskewed(images: Tensor) -> Tensor:
    """Grey images [N, 1, H, W] in [0, 1], each centred and sheared upright according to its second moments."""
    size = images.shape[-1]
    along = (torch.arange(size, dtype=images.dtype) + 0.5) * 2 / size - 1
    mass = images.sum((1, 2, 3)).clamp_min(torch.finfo(images.dtype).tiny)
    x = (images.sum((1, 2)) * along).sum(1) / mass
    y = (images.sum((1, 3)) * along).sum(1) / mass
    from_x, from_y = along - x[:, None], along - y[:, None]
    mixed = (images[:, 0] * from_y[:, :, None] * from_x[:, None, :]).sum((1, 2)) / mass
    upright = (images.sum((1, 3)) * from_y.square()).sum(1) / mass
    slant = mixed / upright.clamp_min(1 / size**2)
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    matrix = torch.stack([torch.stack([one, slant, x], 1), torch.stack([zero, one, y], 1)], 1)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def principal_components(rows: Tensor, count: int) -> Tensor:
    """The rows [N, D] projected onto their `count` directions of largest variance, float32 [N, min(count, D)]."""
    mean, directions = principal_directions(rows, count)
    return (rows - mean) @ directions


def principal_directions(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The mean [D] of the rows [N, D] and their `count` directions of largest variance, [D, min(count, D)]."""
    mean = rows.mean(0)
    centred = rows - mean
    covariance = (centred.T @ centred).double() / len(rows)
    _, directions = torch.linalg.eigh(covariance)  # in order of increasing variance
    return mean, directions[:, -count:].to(rows)


def _features(source: ImageSource, workers: Workers) -> Tensor:
    """Features to compare, float32 [N, COMPONENTS]. One worker computes the directions, so that all have the same bits."""

    def rows_of(indexes: Tensor) -> Iterator[Tensor]:
        chunks = indexes.split(_CHUNK)
        phase = "reading images to find their neighbours"
        return _map(
            workers, lambda chunk: deskewed_pixels(source, chunk), chunks, [len(chunk) for chunk in chunks], phase
        )

    fitted = torch.arange(len(source)) if len(source) <= EXHAUSTIVE_LIMIT else _parts(len(source))[0]
    kept = [rows for rows in rows_of(fitted) if workers.is_main]  # up to 627 MB, on one worker only

    def joined() -> Tensor:
        rows = torch.cat(kept)
        kept.clear()
        return rows

    if len(source) <= EXHAUSTIVE_LIMIT:
        return workers.on_main(lambda: principal_components(joined(), COMPONENTS))
    mean, directions = workers.on_main(lambda: principal_directions(joined(), COMPONENTS))
    return torch.cat([(rows - mean) @ directions for rows in rows_of(torch.arange(len(source)))])


def _parts(size: int) -> list[Tensor]:
    """Split the indices below `size` into the parts that are searched separately: one part, or random parts of nearly equal size."""
    if size <= EXHAUSTIVE_LIMIT:
        return [torch.arange(size)]
    return list(Stream(0, "neighbours").permutation(0, size).tensor_split(-(-size // PART_SIZE)))


def _map(
    workers: Workers, compute: Callable[[Chunk], Tensor], chunks: Sequence[Chunk], sizes: Sequence[int], phase: str
) -> Iterator[Tensor]:
    """Yield `compute` of each chunk in order. Chunk i has sizes[i] rows; they are padded to one shape for the exchange."""
    largest = max(sizes)
    found = workers.map_chunks(
        len(chunks), lambda number: F.pad(compute(chunks[number]), (0, 0, 0, largest - sizes[number])), phase
    )
    return (rows[:size] for rows, size in zip(found, sizes, strict=True))


def deskewed_pixels(source: ImageSource, indexes: Tensor) -> Tensor:
    """The images at `indexes`, deskewed and blurred, float32 [n, SIDE²]: what neighbours are compared by, before projection."""
    grey = torch.cat([_grey(source.read(some)) for some in indexes.split(_READ)])
    return gaussian_blur(deskewed(grey), [7, 7], [BLUR, BLUR]).flatten(1)


def _grey(images: Tensor) -> Tensor:
    """Convert uint8 [n, C, H, W] to grey images in [0, 1], float32 [n, 1, SIDE, SIDE]."""
    if images.shape[1] == 3:
        images = rgb_to_grayscale(images)
    return resize(images.float() / 255, [SIDE, SIDE], antialias=True)
