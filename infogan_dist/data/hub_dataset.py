"""Images of a data set of the Hugging Face `datasets` library. They stay in its Arrow files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, overload

from infogan_dist.config.model import DataConfig
from infogan_dist.data.file_index import FileIndex
from infogan_dist.data.folder import source_of
from infogan_dist.data.sources import ImageSource
from infogan_dist.errors import UserError
from infogan_dist.files import open_regular

SPLIT = "train"
ON_DISK = ("state.json", "dataset_dict.json")  # what `save_to_disk` writes into a folder
STATE_BYTES = 7  # of the hash that stands for a file's time of change: JSON keeps integers below 2^63 exactly


class Row(NamedTuple):
    """The image in a row of a data set with one column of undecoded images."""

    images: Any
    number: int

    def __str__(self) -> str:
        return f"in row {self.number}"

    def open(self) -> BinaryIO:
        """The content of the image file. Raises ValueError if the row has none."""
        (image,) = self.images[self.number].values()
        if image is None or not (image["bytes"] or image["path"]):
            raise ValueError("the row has no image")
        return BytesIO(image["bytes"]) if image["bytes"] else open_regular(Path(image["path"]))


class Rows(Sequence[Row]):
    """The rows of a data set with one column of undecoded images."""

    def __init__(self, images: Any):
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    @overload
    def __getitem__(self, number: int) -> Row: ...
    @overload
    def __getitem__(self, number: slice) -> list[Row]: ...
    def __getitem__(self, number: int | slice) -> Row | list[Row]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        return Row(self._images, number)


def open_dataset(data: DataConfig, split: str) -> ImageSource:
    """All images of the data set, for every split. Raises UserError if it has none or a broken one is known."""
    return source_of(scan_dataset(data), data)


def scan_dataset(data: DataConfig) -> FileIndex:
    """The rows of the data set. Raises UserError as `rows_of` does, and unless one column has images."""
    rows = rows_of(data)
    from datasets import Image  # `rows_of` has refused if it is not installed

    columns = [name for name, feature in rows.features.items() if isinstance(feature, Image)]
    if len(columns) != 1:
        found = f"{len(columns)} columns of images ({', '.join(columns)})" if columns else "no column of images"
        raise UserError(f"data.root = {data.root} has {found} among {', '.join(rows.features)}; give it exactly one")
    images = rows.select_columns(columns).cast_column(columns[0], Image(decode=False))
    changed = int.from_bytes(hashlib.sha256(rows._fingerprint.encode()).digest()[:STATE_BYTES])
    names = [f"row {number}" for number in range(len(images))]
    return FileIndex.of_rows(Path(str(data.root)), names, changed, Rows(images))


def rows_of(data: DataConfig) -> Any:
    """The `train` rows of the data set data.root, or all rows if it has one split: a folder that `save_to_disk` wrote, or what
    `load_dataset` opens, such as OWNER/NAME on the hub. Raises UserError if it cannot be opened."""
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            'data.name = huggingface needs the package datasets; run pip install "infogan_dist[datasets]"'
        ) from error
    root = Path(str(data.root))
    datasets.disable_progress_bars()
    try:
        saved = any((root / name).exists() for name in ON_DISK)
        opened = datasets.load_from_disk(root) if saved else datasets.load_dataset(str(data.root))
    except MemoryError:
        raise
    except Exception as error:  # no common base: errors of the hub, of Arrow, of the network, ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"data.root = {data.root} cannot be opened as a data set: {reason}") from error
    if isinstance(opened, datasets.DatasetDict):
        splits = [str(split) for split in opened]
        if SPLIT not in splits and len(splits) != 1:
            raise UserError(
                f"data.root = {data.root} has the splits {', '.join(splits)} and no {SPLIT}; save one of them"
            )
        opened = opened[SPLIT if SPLIT in splits else splits[0]]
    return opened
