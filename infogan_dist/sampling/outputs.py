"""Files that hold drawn images: which endings there are, where they may go, and how they are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from infogan_dist.checkpoints import store as checkpoints
from infogan_dist.errors import UserError
from infogan_dist.files import atomic_write
from infogan_dist.sampling.captions import tiled

STILL: dict[str, dict[str, Any]] = {  # what Pillow is given, by the ending of the file
    ".png": {"format": "PNG"},
    ".jpg": {"format": "JPEG", "quality": 95},
    ".jpeg": {"format": "JPEG", "quality": 95},
    ".webp": {"format": "WEBP", "lossless": True},
}
ARRAY_ENDING = ".npz"


def is_picture(out: Path) -> bool:
    """Whether `out` is one still picture by its ending."""
    return out.suffix.lower() in STILL


def check_file(out: Path, endings: Sequence[str], flag: str = "--out") -> None:
    """Raises UserError where `out` has none of these endings or cannot be a file there; writes nothing."""
    if out.suffix.lower() not in endings:
        raise UserError(f"{flag} {out} does not end in {' or '.join(endings)}")
    if out.is_dir():
        raise UserError(f"{flag} {out} is a folder; choose another name")
    holder = checkpoints.holder(out)
    if holder is not None and checkpoints.is_checkpoint(holder):
        raise UserError(f"{flag} {out} is inside the checkpoint {holder}; choose a path outside it")


def check_out(out: Path) -> None:
    """Raises UserError where images could not be written to `out` as its ending asks (a picture, an array, a folder), or would mix
    with what lies there; writes nothing."""
    holder = checkpoints.holder(out)
    if is_picture(out) or out.suffix.lower() == ARRAY_ENDING:
        check_file(out, (*STILL, ARRAY_ENDING))
    elif out.suffix and not out.is_dir():
        raise UserError(
            f"--out {out} ends in {out.suffix}, which is not a known format; use {', '.join(STILL)} for a grid, "
            f"{ARRAY_ENDING} for an array, or no ending for a folder of PNGs"
        )
    elif out.exists() and not out.is_dir():
        raise UserError(f"--out {out} exists and is not a folder; choose another name")
    elif holder is not None:
        raise UserError(f"--out {out} would write a folder of PNGs into the run {holder}; choose a path outside it")
    elif out.is_dir() and any(out.iterdir()):
        raise UserError(f"--out {out} is a folder that is not empty; choose another or empty it")


def write_array(images: Tensor, out: Path) -> None:
    """uint8 images [N, C, H, W] as the array `images` of an .npz, NHWC."""
    with atomic_write(out) as partial, partial.open("wb") as file:
        np.savez_compressed(file, images=images.permute(0, 2, 3, 1).numpy())


def write_folder(images: Tensor, out: Path, names: Sequence[str], scale: int = 1) -> None:
    """uint8 images [N, C, H, W] as PNGs of these names in a folder."""
    out.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        save_picture(tiled(images[number : number + 1], 1, scale), out / f"{name}.png")


def save_picture(picture: Image.Image, path: Path, options: Mapping[str, Any] | None = None) -> None:
    """Write a picture whole, in the format of its ending or with these options of Pillow. Raises OSError."""
    try:
        with atomic_write(path, durable=False) as partial:
            picture.save(partial, **(options or STILL[path.suffix.lower()]))
    except ValueError as error:  # WebP holds no more than 16383 pixels a side
        raise OSError(f"a picture of {picture.width} x {picture.height} pixels: {error}") from error
