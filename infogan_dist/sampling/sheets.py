"""How the images of a picture are ordered for people: which stands in which cell, and with which text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from infogan_dist.sampling.captions import Captions

WIDEST = 16  # columns of a row of one class; where many images are drawn, as many as make a square


@dataclass(frozen=True)
class Sheet:
    """The number of the image in each cell, row by row (None: nothing), and the text around them."""

    cells: Sequence[int | None]
    columns: int
    captions: Captions


def in_order(count: int, columns: int, title: str, names: Sequence[str] = ()) -> Sheet:
    """The images one after the other, with the names below them."""
    return Sheet(range(count), columns, Captions(title=title, cells=names))


def sorted_by_class(classes: Sequence[int], columns: int, title: str, name: Callable[[int], str]) -> Sheet:
    """The images in the order of their classes, with the name of the class below each."""
    order = sorted(range(len(classes)), key=classes.__getitem__)
    return Sheet(order, columns, Captions(title=title, cells=[name(classes[number]) for number in order]))


def rows_by_class(classes: Sequence[int], code: str, title: str, name: Callable[[int], str]) -> Sheet:
    """A row for each class, or several where it has many images; the name of the class stands beside its first row."""
    numbers = {each: [i for i, c in enumerate(classes) if c == each] for each in sorted(set(classes))}
    most = max(map(len, numbers.values()))
    columns = math.ceil(most / math.ceil(most / max(WIDEST, math.ceil(math.sqrt(len(classes))))))
    cells: list[int | None] = []
    rows: list[str] = []
    for each, images in numbers.items():
        height = math.ceil(len(images) / columns)
        cells += [*images, *[None] * (height * columns - len(images))]
        rows += [name(each), *[""] * (height - 1)]
    return Sheet(cells, columns, Captions(title=title, row_axis=code, rows=rows))
