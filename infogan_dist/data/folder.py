"""A folder of image files as a data set."""

from __future__ import annotations

import logging
import sys
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from PIL import Image, ImageColor, ImageOps
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from infogan_dist.config.model import DataConfig
from infogan_dist.data.decoding import ENDINGS, BrokenImage, StoredFile, UnreadableImage, decode
from infogan_dist.data.file_index import DECODERS, FileFacts, FileIndex
from infogan_dist.data.sources import ImageSource
from infogan_dist.errors import UserError, printable

MOST_NAMED = 20  # files in one message
CHECKED = 30.0  # seconds in which a message about one broken file looks for the others
AT_ONCE = 8  # images that a thread decodes in one task: one each would take a tenth more time at 64 pixels
RESAMPLING = Image.Resampling.BICUBIC

_log = logging.getLogger("infogan_dist")
_logged: set[str] = set()


class FolderSource:
    """Image files in the order of an index, each decoded when it is read.

    With `data.skip_broken` a broken file gives the image of the next one that is not, which depends on the files alone: it is the
    same on every rank and after a resume. Without it, `read` raises UnreadableImage, which names all broken files.
    """

    def __init__(self, files: FileIndex, data: DataConfig):
        self.files, self._data = files, data
        self._decoders = ThreadPoolExecutor(DECODERS)

    def __len__(self) -> int:
        return len(self.files)

    def read(self, indexes: Tensor) -> Tensor:
        decode = self._decode_or_next if self._data.skip_broken else self._decode

        def read(some: Tensor) -> Tensor:
            return torch.stack([decode(index) for index in some.tolist()])

        try:
            return torch.cat(list(self._decoders.map(read, indexes.split(AT_ONCE))))
        except BrokenImage as error:
            complete = self.files.check(CHECKED)
            raise (_broken_files(self.files, complete) if self.files.broken else error) from None

    def _decode(self, index: int) -> Tensor:
        return read_image(self.files.path(index), self._data)

    def _decode_or_next(self, index: int) -> Tensor:
        """The image at `index`, or the next one that is not broken."""
        for place in _from(index, len(self)):
            if self.files.is_broken(place):
                continue
            try:
                return self._decode(place)
            except BrokenImage as error:
                self._note(place, error)
        raise UserError(f"none of the {len(self)} image files below {self.files.root} can be decoded")

    def _note(self, place: int, error: BrokenImage) -> None:
        """Cache and print a broken file. Any rank may be the first to find it, so each prints."""
        self.files.facts[place] = FileFacts(0, 0, "", False, error.reason)
        self.files.remember()
        replaced = f"{error.path} is broken ({error.reason}); the next image file takes its place"
        print(f"infogan-dist: {printable(replaced)}", file=sys.stderr, flush=True)


def open_folder(data: DataConfig, split: str) -> ImageSource:
    """All image files below data.root, for every split. Raises UserError if there are none or a broken one is known."""
    return source_of(scan(data), data)


def source_of(files: FileIndex, data: DataConfig) -> FolderSource:
    """The images of an index. Raises UserError if one is known to be broken and data.skip_broken is not set."""
    if files.broken and not data.skip_broken:
        raise _broken_files(files, complete=len(files.facts) == len(files))
    if files.broken:
        warn_of_broken(files, "data.skip_broken = true: the next image file takes the place of each")
    return FolderSource(files, data)


def scan(data: DataConfig) -> FileIndex:
    """The image files below data.root. Raises UserError where there is none."""
    root = Path(str(data.root))
    if not root.is_dir():
        raise UserError(f"data.root = {root} is not a folder; set it to the folder of images")
    files = FileIndex.scan(root)
    if not files:
        raise UserError(f"data.root = {root} holds no images ({', '.join(sorted(ENDINGS))})")
    return files


def shown(broken: Collection[int], size: int) -> Tensor:
    """The file whose image each of `size` files gives with `data.skip_broken`, int64 [size]."""
    places = torch.arange(size)
    for number in broken:
        places[number] = next((place for place in _from(number, size) if place not in broken), number)
    return places


def read_image(path: Path | StoredFile, data: DataConfig) -> Tensor:
    """An image file as training reads it, uint8 [C, H, W]. Raises BrokenImage or UnreadableImage."""
    return pil_to_tensor(fitted(decode(path, data.channels, data.background, smallest=data.image_size), data))


def fitted(image: Image.Image, data: DataConfig) -> Image.Image:
    """The image as a square of data.image_size pixels, as `data.fit` says."""
    size = (data.image_size, data.image_size)
    if data.fit == "crop":
        return ImageOps.fit(image, size, RESAMPLING)
    if data.fit == "pad":
        square = Image.new(image.mode, size, ImageColor.getcolor(data.background, image.mode))
        inside = ImageOps.contain(image, size, RESAMPLING)
        square.paste(inside, ((size[0] - inside.width) // 2, (size[1] - inside.height) // 2))
        return square
    return image.resize(size, RESAMPLING)


def _from(index: int, size: int) -> Iterator[int]:
    """All numbers below `size`, beginning with `index`."""
    return ((index + offset) % size for offset in range(size))


def _broken_files(files: FileIndex, complete: bool) -> UnreadableImage:
    """The error that names all broken files."""
    rest = (
        ""
        if complete
        else f" ({len(files.facts):,} of {len(files):,} files were checked; `infogan-dist doctor` checks more)"
    )
    return UnreadableImage(f"{names_of_broken(files)}{rest}; repair or remove them, or set data.skip_broken=true")


def names_of_broken(files: FileIndex) -> str:
    """How many files are known to be broken, with their names and reasons."""
    broken = files.broken
    named = [f"{files.names[number]} ({reason})" for number, reason in list(broken.items())[:MOST_NAMED]]
    more = [f"and {len(broken) - MOST_NAMED} more"] if len(broken) > MOST_NAMED else []
    return (
        f"{len(broken)} of {len(files):,} image files below {files.root} cannot be decoded: {', '.join(named + more)}"
    )


def warn_of_broken(files: FileIndex, consequence: str) -> None:
    """Log the files that are known to be broken."""
    warn_once(f"{names_of_broken(files)}; {consequence}")


def warn_once(line: str) -> None:
    """Log a line unless it was logged before: a command may open a data set several times."""
    if line not in _logged:
        _logged.add(line)
        _log.warning(printable(line))
