"""Decodes image files of any mode to 8-bit grey or RGB."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError

from infogan_dist.errors import UserError
from infogan_dist.files import open_regular

# By default Pillow detects every format that it knows, and runs Ghostscript for PostScript.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
MAX_PIXELS = 64 * 2**20  # per file: a small file may announce terabytes
MODES = {1: "L", 3: "RGB"}
"""Pillow's mode by number of channels."""


class StoredFile(Protocol):
    """An image file that is stored in another file. Its text names it in messages."""

    def open(self) -> BinaryIO:
        """Its content."""


class UnreadableImage(UserError):
    """A file that cannot be read. It may be in one process's share of a batch only, so that process reports it."""

    concerns_one_rank = True
    reason = ""


class BrokenImage(UnreadableImage):
    """A file whose bytes are no image that can be decoded: the same bytes never are."""

    path: Path | StoredFile = Path()


def decode(path: Path | StoredFile, channels: int, background: str = "white", smallest: int = 0) -> Image.Image:
    """The image at `path` in mode L or RGB, upright. Transparency is composited onto `background`, a colour name or #rrggbb.

    A JPEG file is decoded at a fraction of its size whose sides are at least twice `smallest`, which saves most of the time of a
    photograph; 0 is its full size. Raises BrokenImage or UnreadableImage, which name the file and the reason.
    """
    with _named_errors(path), open_image(path) as content, Image.open(content, formats=FORMATS) as file:
        if file.width * file.height > MAX_PIXELS:
            raise ValueError(f"{file.width} x {file.height} pixels are more than {MAX_PIXELS}")
        if smallest:
            file.draft(None, (2 * smallest, 2 * smallest))
        return to_8_bit(ImageOps.exif_transpose(file), MODES[channels], background)


def header_of(path: Path | StoredFile) -> tuple[int, int, str]:
    """Width and height in pixels and Pillow's mode, without decoding. Raises BrokenImage or UnreadableImage."""
    with _named_errors(path), open_image(path) as content, Image.open(content, formats=FORMATS) as file:
        return file.width, file.height, file.mode


def open_image(path: Path | StoredFile) -> BinaryIO:
    return open_regular(path) if isinstance(path, Path) else path.open()


@contextmanager
def _named_errors(path: Path | StoredFile) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # Pillow has no common base: struct.error, KeyError, zlib.error, SyntaxError, ...
        no_access = isinstance(error, OSError) and error.errno is not None  # Pillow's own errors have no number
        failure = (UnreadableImage if no_access else BrokenImage)(
            f"cannot read the image {path}: {_reason(error)}; repair or remove it"
        )
        failure.reason = _reason(error)
        if isinstance(failure, BrokenImage):
            failure.path = path
        raise failure from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"it is none of {', '.join(FORMATS)}"
    return " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())


def to_8_bit(image: Image.Image, mode: str, background: str = "white") -> Image.Image:
    """`image` in `mode`, L or RGB. 16-bit values are scaled from [0, 65535] to [0, 255], floats from [0, 1].

    Raises ValueError for values outside these ranges, and for a mode that Pillow does not convert.
    """
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_scaled(image)).convert(mode)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        opaque = image.convert("RGBA")
        canvas = Image.new("RGBA", opaque.size, (*ImageColor.getrgb(background)[:3], 255))
        return Image.alpha_composite(canvas, opaque).convert("RGB").convert(mode)
    if image.mode == "P":  # through RGB, so that greys come from the palette's colours
        return image.convert("RGB").convert(mode)
    return image.convert(mode)


def _scaled(image: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Grey values of more than 8 bits, uint8 [H, W]."""
    values = np.asarray(image, dtype=np.float64)
    full = 1.0 if image.mode == "F" else 65535.0
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= full):
        raise ValueError(f"its values are from {low:g} to {high:g}, not within 0 to {full:g}")
    return np.rint(values * (255 / full)).astype(np.uint8)
