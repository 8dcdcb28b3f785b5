"""Drawing images: fixed-noise grids of a run, and picture files in any of the formats `sample` writes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image
from torchvision.utils import make_grid

from infogan_dist.checkpoints import store as checkpoints
from infogan_dist.errors import UserError
from infogan_dist.files import atomic_write
from infogan_dist.latents import Latents, LatentSpec
from infogan_dist.randomness import Stream

GRID_FORMATS: dict[str, dict[str, Any]] = {  # what Pillow is given, by the ending of the file
    ".png": {"format": "PNG"},
    ".jpg": {"format": "JPEG", "quality": 95},
    ".jpeg": {"format": "JPEG", "quality": 95},
    ".webp": {"format": "WEBP", "lossless": True},
}
ARRAY_ENDING = ".npz"
GRID_COLUMNS = 10
PADDING = 2  # pixels between the images of a grid
MARGIN = 8  # pixels beside the names of a grid's rows


@dataclass(frozen=True)
class Grid:
    """The latents of one picture, row by row."""

    latents: Latents
    columns: int


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
    grids = {"": Grid(Latents(spec.draw(stream, z_index).noise, held), GRID_COLUMNS)}
    for name in spec.continuous_names:
        swept = spec.with_values(held, {name: spec.sweep_values(name, GRID_COLUMNS)[column]})
        grids[name] = Grid(Latents(spec.draw(stream, row).noise, swept), GRID_COLUMNS)
    return grids


def to_uint8(images: Tensor) -> Tensor:
    """[-1, 1] to 0..255, rounded."""
    return images.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def write_grid(images: Tensor, columns: int, path: Path, names: Sequence[str] = ()) -> Image.Image:
    """One picture of uint8 images [N, C, H, W], row by row; the names of the images, if any, stand beside each row. Returns it.

    Its format goes by the ending of `path`, one of GRID_FORMATS.
    """
    picture = make_grid(images, nrow=columns, padding=PADDING, pad_value=255)  # repeats a grey channel three times
    image = to_pil_image(picture if images.shape[1] == 3 else picture[:1])
    rows = [names[start : start + columns] for start in range(0, len(names), columns)]
    image = _beside(image, [_row_name(row) for row in rows]) if rows else image
    _save(image, path)
    return image


def _row_name(names: Sequence[str]) -> str:
    """All names in order, or the one that all images of a row share."""
    return names[0] if len(set(names)) == 1 else " ".join(names)


def _beside(picture: Image.Image, names: list[str]) -> Image.Image:
    """The picture with a white margin on the left that holds a name for each of its rows."""
    draw = ImageDraw.Draw(picture)
    margin = MARGIN + math.ceil(max(draw.textlength(name) for name in names))
    wider = Image.new(picture.mode, (margin + picture.width, picture.height), "white")
    wider.paste(picture, (margin, 0))
    height = (picture.height - PADDING) / len(names)
    for row, name in enumerate(names):
        ImageDraw.Draw(wider).text((MARGIN // 2, PADDING + (row + 0.5) * height), name, fill="black", anchor="lm")
    return wider


def is_grid(out: Path) -> bool:
    """Whether `write_images` writes one grid there."""
    return out.suffix.lower() in GRID_FORMATS


def check_out(out: Path) -> None:
    """Raises UserError where `write_images` could not write to `out`, or would mix with what lies there; writes nothing."""
    holder = checkpoints.holder(out)
    if is_grid(out) or out.suffix.lower() == ARRAY_ENDING:
        if out.is_dir():
            raise UserError(f"--out {out} is a folder; choose another name")
        if holder is not None and checkpoints.is_checkpoint(holder):
            raise UserError(f"--out {out} lies in the checkpoint {holder}; choose a path outside it")
    elif out.suffix and not out.is_dir():
        raise UserError(
            f"--out {out} ends in {out.suffix}, which is not a known format; use {', '.join(GRID_FORMATS)} for a grid, "
            f"{ARRAY_ENDING} for an array, or no ending for a folder of PNGs"
        )
    elif out.exists() and not out.is_dir():
        raise UserError(f"--out {out} exists and is not a folder; choose another name")
    elif holder is not None:
        raise UserError(f"--out {out} would write a folder of PNGs into the run {holder}; choose a path outside it")
    elif out.is_dir() and any(out.iterdir()):
        raise UserError(f"--out {out} is a folder that is not empty; choose another or empty it")


def write_images(images: Tensor, out: Path, names: Sequence[str] = ()) -> None:
    """uint8 images [N, C, H, W] as the ending of `out` asks: one grid, with their names if they have any, one `.npz` (uint8,
    NHWC), else a folder of PNGs."""
    if is_grid(out):
        write_grid(images, math.ceil(math.sqrt(len(images))), out, names)
    elif out.suffix.lower() == ARRAY_ENDING:
        with atomic_write(out) as partial, partial.open("wb") as file:
            np.savez_compressed(file, images=images.permute(0, 2, 3, 1).numpy())
    else:
        out.mkdir(exist_ok=True)
        digits = max(5, len(str(len(images) - 1)))
        for number, image in enumerate(images):
            _save(to_pil_image(image), out / f"{number:0{digits}d}.png")


def _save(image: Image.Image, path: Path) -> None:
    try:
        with atomic_write(path, durable=False) as partial:
            image.save(partial, **GRID_FORMATS[path.suffix.lower()])
    except ValueError as error:  # WebP holds no more than 16383 pixels a side
        raise OSError(f"a picture of {image.width} x {image.height} pixels: {error}") from error
