"""A first look at the user's own images: what they are, which cannot be decoded, and what they show. No file is written."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median_low

import torch
from torch import Tensor

from infogan_dist.config.model import DataConfig
from infogan_dist.data.decoding import open_image
from infogan_dist.data.file_index import FileFacts, FileIndex
from infogan_dist.data.folder import names_of_broken, read_image
from infogan_dist.errors import UserError
from infogan_dist.registry.data_sets import DATA_SETS

SECONDS = 60.0  # in which files are decoded; a larger folder is looked at in part, in random order
MOST_LISTED = 8  # names in one line
EXAMPLES = 40  # images of the contact sheet, and those that `light_ink_on_black` reads
COLOURED = 0.02  # share of coloured images above which a folder is in colour
DARK, BRIGHT = 0.2, 0.8  # brightness of background and ink
READ_AT_ONCE = 2**20  # bytes


@dataclass(frozen=True)
class FolderLook:
    """The image files below a folder, and what was found in those that were decoded."""

    files: FileIndex
    duplicates: tuple[tuple[str, ...], ...]
    """Groups of names of files with equal bytes."""

    @classmethod
    def of(cls, data: DataConfig, show_progress: bool = False) -> FolderLook:
        """Look at the images of data.root. Raises UserError if there is no image in it, or none that can be decoded."""
        files: FileIndex = DATA_SETS.load(data.name, "scan", Callable)(data)
        files.check(SECONDS, show_progress)
        if len(files.broken) == len(files):
            raise UserError(
                f"none of the {len(files)} image files below {files.root} can be decoded: {names_of_broken(files)}"
            )
        return cls(files, tuple(_duplicates(files)))

    @property
    def decoded(self) -> list[FileFacts]:
        return [facts for facts in self.files.facts.values() if not facts.broken]

    @property
    def coloured(self) -> bool:
        return sum(facts.coloured for facts in self.decoded) > COLOURED * len(self.decoded)

    @property
    def shorter_side(self) -> int:
        """The median of the shorter sides, pixels."""
        return median_low(min(facts.width, facts.height) for facts in self.decoded)

    @property
    def subfolders(self) -> dict[str, int]:
        """The number of images by subfolder of data.root, or by shard, if all images are in one."""
        parts = [name.partition("/") for name in self.files.names]
        return dict(sorted(Counter(top for top, _, _ in parts).items())) if all(rest for _, _, rest in parts) else {}

    def examples(self) -> list[int]:
        """The numbers of at most EXAMPLES decodable files, evenly spaced."""
        known = [number for number, facts in sorted(self.files.facts.items()) if not facts.broken]
        places = torch.linspace(0, len(known) - 1, min(EXAMPLES, len(known))).long().tolist()
        return [known[place] for place in places]

    def read(self, data: DataConfig) -> Tensor:
        """The examples as training reads them, uint8 [N, C, H, W]."""
        return torch.stack([read_image(self.files.path(number), data) for number in self.examples()])

    def light_ink_on_black(self, data: DataConfig) -> bool:
        """Whether most examples have a dark border, a mostly dark area and bright strokes, as MNIST has. For grey images."""
        images = self.read(data).double().mean(1) / 255
        border = torch.cat([images[:, [0, -1]].flatten(1), images[:, :, [0, -1]].flatten(1)], dim=1).mean(1)
        ink = (border < DARK) & ((images < DARK).double().mean((1, 2)) > 0.5) & (images.amax((1, 2)) > BRIGHT)
        return not self.coloured and bool(ink.double().mean() > 0.5)

    def lines(self) -> Iterator[str]:
        """Number, subfolders, sizes, colour and modes of the files."""
        decoded, count = self.decoded, len(self.files)
        part = (
            "" if len(self.files.facts) == count else f", of which {len(self.files.facts):,} were decoded for this look"
        )
        yield f"{count:,} image files below {self.files.root}{part}"
        if self.subfolders:
            what = "shards" if all(name.endswith(".tar") for name in self.subfolders) else "subfolders"
            yield f"{len(self.subfolders)} {what}: {_listed([f'{name} {size:,}' for name, size in self.subfolders.items()])}"
        widths, heights = [facts.width for facts in decoded], [facts.height for facts in decoded]
        modes = Counter(facts.mode for facts in decoded).most_common()
        shares = f"{sum(facts.coloured for facts in decoded) / len(decoded):.0%} coloured"
        yield (
            f"{min(widths)} to {max(widths)} pixels wide, {min(heights)} to {max(heights)} high, median shorter side "
            f"{self.shorter_side}; {shares}; modes {', '.join(f'{mode} {each:,}' for mode, each in modes)}"
        )

    def warnings(self, image_size: int) -> Iterator[str]:
        """Files that are broken, copies of another, or smaller than the networks' images."""
        if self.files.broken:
            yield names_of_broken(self.files)
        copies = sum(len(group) - 1 for group in self.duplicates)
        if copies:
            listed = _listed([" = ".join(group[:3]) for group in self.duplicates])
            yield f"{copies:,} of the files are copies of another: {listed}"
        small = sum(min(facts.width, facts.height) < image_size for facts in self.decoded)
        if small:
            yield f"{small:,} images have a side below data.image_size = {image_size} and are enlarged"


def _duplicates(files: FileIndex) -> Iterator[tuple[str, ...]]:
    """Groups of files with equal bytes. Only files of equal size are read."""
    by_size: dict[int, list[int]] = defaultdict(list)
    for number, size in enumerate(files.sizes):
        by_size[size].append(number)
    by_content: dict[str, list[str]] = defaultdict(list)
    for number in (number for group in by_size.values() if len(group) > 1 for number in group):
        if number in files.facts and not files.facts[number].broken:
            by_content[_checksum(files, number)].append(files.names[number])
    return (tuple(names) for names in by_content.values() if len(names) > 1)


def _checksum(files: FileIndex, number: int) -> str:
    digest = hashlib.sha256()
    with open_image(files.path(number)) as content:
        while chunk := content.read(READ_AT_ONCE):
            digest.update(chunk)
    return digest.hexdigest()


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_LISTED:,} more" if len(names) > MOST_LISTED else ""
    return ", ".join(names[:MOST_LISTED]) + more
