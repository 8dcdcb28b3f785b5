"""Pictures for people: images in a grid, with names of its rows, columns and cells and a title around it."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import pad

PADDING = 2  # pixels between images
MARGIN = 12  # pixels around a captioned picture
GAP = 8  # pixels between text and what it names
FONT_SIZE = 13
LINE = 18  # pixels from one line of text to the next
TEXT, FAINT = "#202020", "#606060"
READABLE = 56  # pixels a side: smaller images are enlarged, or the text would dwarf them
PAGE = 640  # pixels: a few images are enlarged until they fill so much of a page's width
LARGEST = 192  # pixels a side to which they are enlarged at most
MOST_ENLARGED = 100  # images in a row or column; more would make a picture that is too large to look at
SPREAD_COLUMNS = 16  # up to which columns stand further apart for their names as well; of more, some names are left out
WIDEST_NAME = 80  # pixels: images stand further apart so that a name of this width fits below each


@dataclass(frozen=True)
class Captions:
    """The text around a grid of images; what is empty is not written. Pillow's font is made for ASCII; accents are dropped.

    `row_axis` and `column_axis` say what changes from row to row and from column to column; `rows` and `columns` are the names
    of each, `cells` those of the images, below them. Names of rows and cells may have several lines. Where some columns have an
    empty name, the others are names of groups of columns.
    """

    title: str = ""
    row_axis: str = ""
    rows: Sequence[str] = ()
    column_axis: str = ""
    columns: Sequence[str] = ()
    cells: Sequence[str] = ()

    def in_ascii(self) -> Captions:
        """The same with every text in ASCII."""
        rows, columns, cells = (tuple(map(_ascii, names)) for names in (self.rows, self.columns, self.cells))
        return Captions(_ascii(self.title), _ascii(self.row_axis), rows, _ascii(self.column_axis), columns, cells)


def tiled(images: Tensor, columns: int, scale: int = 1, room: tuple[int, int] = (0, 0)) -> Image.Image:
    """uint8 images [N, C, H, W] row by row, each pixel `scale` pixels wide and high, on white.

    Without text, and with no pixel between them, but for the `room` (pixels to the right, pixels below) of every image.
    """
    rows = math.ceil(len(images) / columns)
    blank = torch.full_like(images[:1], 255).expand(rows * columns - len(images), -1, -1, -1)
    cells = torch.cat([images, blank]).repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    cells = pad(cells, (0, room[0], 0, room[1]), value=255)
    channels, height, width = cells.shape[1:]
    picture = cells.view(rows, columns, channels, height, width).permute(2, 0, 3, 1, 4)
    pixels = picture.reshape(channels, rows * height, columns * width).movedim(0, 2).contiguous().numpy()
    return Image.fromarray(pixels if channels == 3 else pixels[:, :, 0])


def in_cells(images: Tensor, cells: Sequence[int | None]) -> Tensor:
    """The images at the numbers in `cells`, and a white one for each None."""
    with_blank = torch.cat([images, torch.full_like(images[:1], 255)])
    return with_blank[torch.tensor([len(images) if number is None else number for number in cells])]


def picture(images: Tensor, columns: int, captions: Captions | None, scale: int | None = None) -> Image.Image:
    """uint8 images [N, C, H, W] row by row: with text around them, or without captions their bare pixels.

    `scale`: how many times they are enlarged; without it 1 for bare pixels, else what suits the text.
    """
    return captioned(images, columns, captions, scale) if captions else tiled(images, columns, scale or 1)


def captioned(images: Tensor, columns: int, captions: Captions, scale: int | None = None) -> Image.Image:
    """uint8 images [N, C, H, W] row by row with text around them. Without a `scale`, small images are enlarged."""
    captions = captions.in_ascii()
    height, width = images.shape[2:]
    scale = scale or readable_scale(width, max(columns, math.ceil(len(images) / columns)))
    place = _Place.of(captions, scale * width, scale * height)
    grid = tiled(images, columns, scale, place.room)
    wanted = max(_length(captions.title) + MARGIN, place.left + _length(captions.column_axis))
    wide = max(
        place.left + grid.width - place.room[0] + place.left - place.beside, min(math.ceil(wanted) + MARGIN, PAGE)
    )
    page = Image.new(grid.mode, (wide, place.top + grid.height + MARGIN - PADDING), "white")
    page.paste(grid, (place.left, place.top))
    _write_heading(ImageDraw.Draw(page), captions, place, wide)
    _write_names(ImageDraw.Draw(page), captions, place, columns)
    return page


@dataclass(frozen=True)
class _Place:
    """Where the images of a captioned grid stand, in pixels: the first one, the size of each, and the room right of and below it."""

    left: int
    top: int
    width: int
    height: int
    room: tuple[int, int]
    beside: int
    """Of `left`, what the names of the rows take."""

    @classmethod
    def of(cls, captions: Captions, width: int, height: int) -> _Place:
        below = [line for name in captions.cells for line in name.split("\n")]
        above = captions.columns if all(captions.columns) and len(captions.columns) <= SPREAD_COLUMNS else ()
        longest = max(map(_length, [*below, *above]), default=0)
        overhang = max(min(math.ceil(longest) + GAP, WIDEST_NAME) - width, 0)  # of a cell's name over its image
        lines = [captions.row_axis, *(line for name in captions.rows for line in name.split("\n"))]
        beside = max(math.ceil(_length(line)) + GAP if line else 0 for line in lines)
        named = bool(captions.columns or captions.row_axis)
        top = MARGIN + LINE * (bool(captions.column_axis) + named)
        top += LINE + GAP // 2 if captions.title else 0
        top += GAP // 2 if captions.column_axis and not named else 0
        depth = max((name.count("\n") + 1 for name in captions.cells), default=0)
        room = (max(overhang, PADDING), LINE * depth + GAP if depth else PADDING)
        return cls(MARGIN + beside + overhang // 2, top, width, height, room, beside)

    def middle(self, row: int, column: int) -> tuple[float, float]:
        """The middle of an image."""
        x = self.left + column * (self.width + self.room[0]) + self.width / 2
        return x, self.top + row * (self.height + self.room[1]) + self.height / 2


def _write_heading(draw: ImageDraw.ImageDraw, captions: Captions, place: _Place, wide: int) -> None:
    line = MARGIN + LINE / 2
    if captions.title:
        _write(draw, (MARGIN, line), captions.title, "lm", wide - 2 * MARGIN)
        line += LINE + GAP // 2
    if captions.column_axis:
        _write(draw, (place.left, line), captions.column_axis, "lm", wide - place.left - MARGIN, FAINT)
        line += LINE
    if captions.row_axis:
        _write(draw, (MARGIN + place.beside - GAP, line), captions.row_axis, "rm", place.beside, FAINT)


def _write_names(draw: ImageDraw.ImageDraw, captions: Captions, place: _Place, columns: int) -> None:
    cell = place.width + place.room[0]
    above = place.top - LINE / 2 - 1
    if all(captions.columns):
        longest = max(map(_length, captions.columns), default=0)
        for column in range(0, len(captions.columns), math.ceil((longest + 1) / cell)):  # names must not touch
            _write(draw, (place.middle(0, column)[0], above), captions.columns[column], "mm", PAGE)
    else:
        for column, name in enumerate(captions.columns):
            _write(draw, (place.left + column * cell, above), name, "lm", PAGE)
    for row, name in enumerate(captions.rows):
        _, y = place.middle(row, 0)
        at = (MARGIN + place.beside - GAP, y)
        draw.multiline_text(at, name, fill=TEXT, font=_font(), anchor="rm", align="right")
    for number, name in enumerate(captions.cells):
        x, y = place.middle(number // columns, number % columns)
        for depth, line in enumerate(name.split("\n")):
            _write(draw, (x, y + place.height / 2 + (depth + 0.5) * LINE), line, "mm", cell - GAP)


def _write(
    draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, anchor: str, room: float, fill: str = TEXT
) -> None:
    draw.text(at, _shortened(text, room), fill=fill, font=_font(), anchor=anchor)


def readable_scale(size: int, in_line: int) -> int:
    """How many times images of `size` pixels are enlarged beside text: to READABLE pixels, and a few `in_line` to fill a PAGE."""
    if in_line > MOST_ENLARGED:
        return 1
    return max(math.ceil(READABLE / size), min(PAGE // (in_line * size), LARGEST // size))


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(FONT_SIZE)


def _length(text: str) -> float:
    return _font().getlength(text)


def _ascii(text: str) -> str:
    letters = unicodedata.normalize("NFKD", text)
    return "".join(each for each in letters if not unicodedata.combining(each)).encode("ascii", "replace").decode()


def _shortened(text: str, room: float) -> str:
    """The text, or its beginning and end where it is longer than `room` pixels."""
    kept = len(text)
    short = text
    while kept > 2 and _length(short) > room:
        kept -= 1
        short = f"{text[: (kept + 1) // 2]}...{text[len(text) - kept // 2 :]}"
    return short
