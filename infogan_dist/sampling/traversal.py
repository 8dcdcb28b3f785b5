"""Traversals: how an image changes when one or two codes, or the noise, change and all else is held."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from infogan_dist.errors import UserError
from infogan_dist.latents import Latents, LatentSpec
from infogan_dist.sampling.captions import Captions
from infogan_dist.sampling.interpolation import noise_path
from infogan_dist.sampling.sheets import Sheet

NOISE = "noise"  # the name of the axis between seeds
Bounds = tuple[float, float]
ClassName = Callable[[str, int], str]  # of a code and one of its classes


@dataclass(frozen=True)
class Axis:
    """What changes: a code with its values [n], or NOISE with its values [n, noise_dim]; and a name for each value."""

    name: str
    values: Tensor
    names: Sequence[str]

    def apply(self, spec: LatentSpec, latents: Latents, which: Tensor) -> Latents:
        """The latents [B] with the values at `which`, int64 [B]."""
        if self.name == NOISE:
            return Latents(self.values[which], latents.codes)
        return Latents(latents.noise, spec.with_values(latents.codes, {self.name: self.values[which]}))


@dataclass(frozen=True)
class Traversal:
    """The latents of all images, the numbers of those in each row, and the text around the rows.

    A still picture shows the rows. A moving one shows one image of each row at a time, from its first to its last.
    """

    latents: Latents
    rows: Sequence[Sequence[int]]
    captions: Captions

    @property
    def frames(self) -> int:
        """How many frames a moving picture has: the images of the longest row."""
        return max(map(len, self.rows))

    def sheet(self, title: str) -> Sheet:
        """The still picture."""
        cells = [number for row in self.rows for number in (*row, *[None] * (self.frames - len(row)))]
        return Sheet(cells, self.frames, replace(self.captions, title=title))

    def frame(self, time: int, title: str) -> Sheet:
        """One frame of the moving picture. A row with fewer images than there are frames shows each of them for longer."""
        shown = [row[time * len(row) // self.frames] for row in self.rows]
        words = self.captions
        if words.columns:
            sign = ":" if words.column_axis == NOISE else " ="
            heading, names = f"{words.column_axis}{sign} {words.columns[time]}", words.rows
            heading += f"; below each image its {words.row_axis}" if words.rows else ""
        else:
            cells = self.sheet("").cells
            heading, values = "", [words.cells[cells.index(number)] for number in shown]
            names = [f"{name} = {value}" for name, value in zip(words.rows, values, strict=True)]
        return Sheet(shown, near_square(len(shown)), Captions(title=title, column_axis=heading, cells=names))


def code_axis(spec: LatentSpec, name: str, count: int, bounds: Bounds, class_name: ClassName) -> Axis:
    """Every class of a code, or `count` values between `bounds`. Raises UserError for a code that this model does not have."""
    spec.with_values(spec.neutral_codes(0), {name: 0})
    values = spec.sweep_values(name, count, *bounds)
    if name in spec.categorical_names:
        return Axis(name, values, [class_name(name, number) for number in values.tolist()])
    return Axis(name, values, [f"{value:.2f}" for value in values.tolist()])


def noise_axis(spec: LatentSpec, noises: Tensor, seeds: Sequence[int], count: int) -> Axis:
    """`count` noises on the path by those of the seeds, [n, noise_dim]."""
    places = torch.linspace(0, len(seeds) - 1, count, dtype=torch.float64).tolist()
    names = [f"seed {seeds[int(at)]}" if at == int(at) else f"{seeds[int(at)]} + {at % 1:.0%}" for at in places]
    return Axis(NOISE, noise_path(noises, count, spec), names)


def traversal(spec: LatentSpec, held: Latents, axes: Sequence[Axis]) -> Traversal:
    """One axis as a row, or two as a sheet: the first down, the second across. `held`: the latents of one image, [1]."""
    across = axes[-1]
    down = axes[0] if len(axes) > 1 else None
    height, width = len(down.names) if down else 1, len(across.names)
    number = torch.arange(height * width)
    latents = across.apply(spec, held.at(torch.zeros_like(number)), number % width)
    latents = down.apply(spec, latents, number // width) if down else latents
    captions = Captions(column_axis=across.name, columns=across.names)
    if down:
        captions = replace(captions, row_axis=down.name, rows=down.names)
    return Traversal(latents, number.view(height, width).tolist(), captions)


def all_codes(spec: LatentSpec, held: Latents, count: int, bounds: Bounds, class_name: ClassName) -> Traversal:
    """A row for each code. Raises UserError for a model without codes."""
    if not spec.code_names:
        raise UserError("this model has no code to change")
    axes = [code_axis(spec, name, count, bounds, class_name) for name in spec.code_names]
    parts = [traversal(spec, held, [axis]).latents for axis in axes]
    numbers = iter(range(sum(map(len, parts))))
    rows = [[next(numbers) for _ in axis.names] for axis in axes]
    longest = max(map(len, rows))
    cells = [name for axis in axes for name in (*axis.names, *[""] * (longest - len(axis.names)))]
    return Traversal(Latents.joined(parts), rows, Captions(rows=spec.code_names, cells=cells))


def near_square(count: int) -> int:
    """The number of columns for `count` images: one that fills every row, or of a square if that would be far wider."""
    square = math.isqrt(count - 1) + 1
    filling = next(columns for columns in range(square, count + 1) if count % columns == 0)
    return filling if filling <= 2 * square else square
