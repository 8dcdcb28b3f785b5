"""Grids of images: the fixed-noise grids of a run, and how a grid becomes a picture file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from infogan_dist.latents import Latents, LatentSpec
from infogan_dist.randomness import Stream
from infogan_dist.sampling.batches import batches_of
from infogan_dist.sampling.captions import Captions, picture
from infogan_dist.sampling.outputs import save_picture

GRID_COLUMNS = 10
Draw = Callable[[Tensor], Tensor]  # the images at some indexes


@dataclass(frozen=True)
class Grid:
    """The latents of one picture, row by row, and the text around it."""

    latents: Latents
    columns: int
    captions: Captions = field(default_factory=Captions)

    def titled(self, title: str) -> Captions:
        """Its captions with a title."""
        return replace(self.captions, title=title)


def fixed_grids(spec: LatentSpec, seed: int) -> dict[str, Grid]:
    """The pictures that follow a run, by suffix of their file name.

    "": a row per class of categorical_0, the same z down each column, other codes held (rows of fresh z where there is no
    categorical code). By continuous code: a row per class (or fresh z), the code from -1 to 1 across, z held along a row.
    """
    rows = spec.categorical[0] if spec.categorical else GRID_COLUMNS
    row, column = torch.arange(rows).repeat_interleave(GRID_COLUMNS), torch.arange(GRID_COLUMNS).repeat(rows)
    stream = Stream(seed, "fixed noise")
    held = spec.neutral_codes(len(row))
    if spec.categorical:
        held = spec.with_values(held, {spec.categorical_names[0]: row})
    z_index = column if spec.categorical else row * GRID_COLUMNS + column
    by_class = Captions(row_axis=spec.categorical_names[0], rows=numbered(rows)) if spec.categorical else Captions()
    by_noise = replace(by_class, column_axis="noise z, the same down each column", columns=numbered(GRID_COLUMNS, 1))
    first = Latents(spec.draw(stream, z_index).noise, held)
    grids = {"": Grid(first, GRID_COLUMNS, by_noise if spec.categorical else by_class)}
    for name in spec.continuous_names:
        levels = spec.sweep_values(name, GRID_COLUMNS)
        swept = spec.with_values(held, {name: levels[column]})
        captions = by_class if spec.categorical else Captions(row_axis="noise z", rows=numbered(rows, 1))
        captions = replace(captions, column_axis=name, columns=[f"{level:.2f}" for level in levels.tolist()])
        grids[name] = Grid(Latents(spec.draw(stream, row).noise, swept), GRID_COLUMNS, captions)
    return grids


def numbered(count: int, first: int = 0) -> list[str]:
    """Names for rows or columns: their numbers."""
    return [str(first + number) for number in range(count)]


def to_uint8(images: Tensor) -> Tensor:
    """[-1, 1] to 0..255, rounded."""
    return images.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def draw_all(
    draw: Callable[[Latents], Tensor], latents: Latents, map_batches: Callable[[list[Tensor], Draw], Tensor]
) -> Tensor:
    """The images of all latents, uint8 [N, C, H, W] on the CPU; `draw` gives those of some, `map_batches` is a Group's."""
    images = map_batches(batches_of(len(latents)), lambda ours: to_uint8(draw(latents.at(ours))))
    return images[: len(latents)].cpu()


def write_grid(
    images: Tensor, columns: int, path: Path, captions: Captions | None = None, scale: int | None = None
) -> Image.Image:
    """Write `captions.picture` of these images in the format of the ending of `path`. Returns it."""
    drawn = picture(images, columns, captions, scale)
    save_picture(drawn, path)
    return drawn
