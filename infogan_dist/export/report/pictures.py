"""The grids of runs as data: URLs, compressed so that all of a report fit into its budget."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

BUDGET = 1_300_000  # bytes of all pictures of a report in base64
EARLIER = 5  # grids before the last
MOST_PIXELS = 50_000_000  # of a picture that is read
_GRID = re.compile(r"step-(\d{8,12})(?:-(continuous_\d+))?\.png")


@dataclass(frozen=True)
class Quality:
    """How pictures are encoded: at most `side` pixels, WebP's quality (None: lossless), and the number of earlier grids."""

    side: int
    webp: int | None
    earlier: int


QUALITIES = (  # the first that fits the budget
    Quality(1024, None, EARLIER),
    Quality(768, 85, EARLIER),
    Quality(512, 75, EARLIER),
    Quality(400, 60, 3),
    Quality(320, 50, 1),
    Quality(240, 40, 0),
    Quality(120, 30, 0),
)


@dataclass(frozen=True)
class Picture:
    step: int
    width: int
    height: int
    """Of the file, in pixels."""
    url: str


@dataclass(frozen=True)
class Pictures:
    """The pictures of one run: the newest grid, those before it, and the newest grid of each continuous code, oldest first."""

    newest: Picture | None
    earlier: tuple[Picture, ...]
    sweeps: dict[str, Picture]


def pictures(folders: Sequence[Path], budget: int = BUDGET) -> list[Pictures]:
    """The pictures in each run folder's samples, in the best quality that fits `budget`; none if the worst does not fit.

    A file that is not a picture is left out.
    """
    files = [_files(folder / "samples") for folder in folders]
    for quality in QUALITIES:
        found = [_encoded(each, quality) for each in files]
        if sum(_size(each) for each in found) <= budget:
            return found
    return [Pictures(None, (), {}) for _ in folders]


def spread(items: Sequence[int], count: int) -> list[int]:
    """At most `count` of the items, evenly spaced, including the first."""
    if len(items) <= count:
        return list(items)
    return [items[number * len(items) // count] for number in range(count)]


def _files(folder: Path) -> dict[str, dict[int, Path]]:
    """The grids by code ("" for the grid of classes) and step."""
    found: dict[str, dict[int, Path]] = {}
    for path in sorted(folder.glob("step-*.png")):
        match = _GRID.fullmatch(path.name)
        if match is not None and path.is_file():
            found.setdefault(match[2] or "", {})[int(match[1])] = path
    return found


def _encoded(files: dict[str, dict[int, Path]], quality: Quality) -> Pictures:
    grids = files.get("", {})
    steps = sorted(grids)
    earlier = [_picture(grids[step], step, quality) for step in spread(steps[:-1], quality.earlier)]
    sweeps = {code: _picture(by_step[max(by_step)], max(by_step), quality) for code, by_step in files.items() if code}
    return Pictures(
        newest=_picture(grids[steps[-1]], steps[-1], quality) if steps else None,
        earlier=tuple(picture for picture in earlier if picture is not None),
        sweeps={code: picture for code, picture in sorted(sweeps.items()) if picture is not None},
    )


def _picture(path: Path, step: int, quality: Quality) -> Picture | None:
    """None if the file is not a picture, or too large to be a grid."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            if image.width * image.height > MOST_PIXELS:
                return None
            size = image.size
            small = image.convert("L" if image.mode in ("1", "L", "I;16", "I") else "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    small.thumbnail((quality.side, quality.side))
    encoded = io.BytesIO()
    small.save(encoded, "WEBP", lossless=quality.webp is None, quality=quality.webp or 80)
    url = f"data:image/webp;base64,{base64.b64encode(encoded.getvalue()).decode()}"
    return Picture(step, *size, url)


def _size(found: Pictures) -> int:
    each = [found.newest, *found.earlier, *found.sweeps.values()]
    return sum(len(picture.url) for picture in each if picture is not None)
