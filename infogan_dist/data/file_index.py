"""The image files below a folder, in archives or in a data set, in order, with size, mode and fault of each.

They are listed in seconds, and decoded once, to find the facts that are cached.

The cache is in the user's cache folder. An entry is valid while name, size and time of change of the file stay the same.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
import sys
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from infogan_dist.data.archives import Member
from infogan_dist.data.decoding import ENDINGS, BrokenImage, StoredFile, UnreadableImage, decode, header_of
from infogan_dist.errors import UserError
from infogan_dist.files import atomic_write, cache_folder, read_regular

SCHEMA = 1
CACHE_LIMIT = 2**30  # bytes: a million files have about 100 MB
DECODERS = min(8, os.cpu_count() or 1)  # threads: Pillow decodes without holding the interpreter
THUMBNAIL = 32  # pixels a side at which colour is looked for
COLOURED = 3.0  # grey levels between the channels of a thumbnail, on average: scans of grey paper stay below


class FileFacts(NamedTuple):
    """What decoding a file found: pixels and Pillow's mode as stored, whether it has colour; or why it cannot be decoded."""

    width: int
    height: int
    mode: str
    coloured: bool
    broken: str = ""
    lasting: bool = True
    """Whether the facts depend on the bytes alone. A missing permission is not cached."""


class FileIndex:
    """The image files below `root` by number, in the order of their paths. Names that begin with a dot are left out.

    With `of_members`, images in tar files below `root`; with `of_rows`, those of a data set.
    """

    def __init__(
        self, root: Path, names: list[str], states: list[tuple[int, int]], members: Sequence[StoredFile] | None = None
    ):
        """`names` are relative to `root`, `states` the size in bytes and the time of change in nanoseconds of each."""
        self.root, self.names, self._states, self._members = root, names, states, members
        self.facts: dict[int, FileFacts] = {}
        """By number, of the files that have been decoded so far."""
        self._writing = threading.Lock()

    @classmethod
    def scan(cls, root: Path) -> FileIndex:
        """List the files and read their facts from the cache. Raises UserError if a folder cannot be read."""
        found = list(files_below(str(root), ENDINGS))
        index = cls(root, [name for name, _, _ in found], [(size, changed) for _, size, changed in found])
        index.facts = index._cached()
        return index

    @classmethod
    def of_rows(cls, root: Path, names: list[str], changed: int, rows: Sequence[StoredFile]) -> FileIndex:
        """Images that are stored as `rows` of the data set `root`, whose content `changed` identifies. Their facts come from the cache."""
        index = cls(root, names, [(0, changed)] * len(names), rows)
        index.facts = index._cached()
        return index

    @classmethod
    def of_members(cls, root: Path, members: Sequence[Member]) -> FileIndex:
        """The images in archives below `root`, or in the archive `root`, in this order. Their facts come from the cache."""
        above = {
            path: "" if path == root else f"{path.relative_to(root)}/" for path in {each.archive for each in members}
        }
        names = [above[each.archive] + each.name.removeprefix("./") for each in members]
        index = cls(root, names, [(each.size, each.changed) for each in members], members)
        index.facts = index._cached()
        return index

    def __len__(self) -> int:
        return len(self.names)

    def path(self, number: int) -> Path | StoredFile:
        return self._members[number] if self._members is not None else self.root / self.names[number]

    @property
    def sizes(self) -> list[int]:
        """The size of each file, bytes."""
        return [size for size, _ in self._states]

    @property
    def broken(self) -> dict[int, str]:
        """The reason by number, of the files that are known not to be decodable."""
        return {number: facts.broken for number, facts in sorted(self.facts.items()) if facts.broken}

    def decodable(self) -> FileIndex:
        """A new index of the files that are not known to be broken."""
        kept = [number for number in range(len(self)) if not self.is_broken(number)]
        members = None if self._members is None else [self._members[number] for number in kept]
        index = FileIndex(
            self.root, [self.names[number] for number in kept], [self._states[number] for number in kept], members
        )
        index.facts = {place: self.facts[number] for place, number in enumerate(kept) if number in self.facts}
        return index

    def is_broken(self, number: int) -> bool:
        """Whether the file is known to be broken. A file without read permission is not."""
        facts = self.facts.get(number)
        return facts is not None and bool(facts.broken) and facts.lasting

    def check(self, seconds: float = math.inf, show_progress: bool = False) -> bool:
        """Decode the files without facts for at most `seconds` and cache the result. Returns whether all files have
        facts."""
        unknown = [number for number in range(len(self)) if number not in self.facts]
        if not unknown:
            return True
        Random(0).shuffle(unknown)  # noqa: S311 - a part of a folder is then a sample of it
        end, pace = time.monotonic() + seconds, 0.5 if sys.stderr.isatty() else 10
        bar = tqdm(total=len(unknown), desc="decoding images", unit="image", delay=2, mininterval=pace)
        bar.disable = not show_progress
        with bar, ThreadPoolExecutor(DECODERS) as decoders:
            for start in range(0, len(unknown), 64):  # few enough to stop in time
                if time.monotonic() > end:
                    break
                some = unknown[start : start + 64]
                self.facts |= zip(some, decoders.map(lambda number: facts_of(self.path(number)), some), strict=True)
                bar.update(len(some))
        self.remember()
        return len(self.facts) == len(self)

    def remember(self) -> None:
        """Write the facts of the files to the cache. A cache that cannot be written is ignored."""
        kept = {
            self.names[number]: [*self._states[number], *facts[:-1]]
            for number, facts in self.facts.items()
            if facts.lasting
        }
        with suppress(OSError), self._writing:
            self._cache.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(self._cache, durable=False) as partial:
                partial.write_text(json.dumps({"schema": SCHEMA, "files": kept}, separators=(",", ":")))

    @cached_property
    def _cache(self) -> Path:
        name = hashlib.sha256(os.fsencode(os.path.realpath(self.root))).hexdigest()[:16]
        return cache_folder() / ("image-files" if self._members is None else "shard-images") / f"{name}.json"

    def _cached(self) -> dict[int, FileFacts]:
        """The cached facts of unchanged files by number; none if the cache is damaged."""
        try:
            content = json.loads(read_regular(self._cache, CACHE_LIMIT))
            files = content["files"] if content["schema"] == SCHEMA else {}
            known = ((number, files[name]) for number, name in enumerate(self.names) if name in files)
            return {
                number: FileFacts(int(width), int(height), str(mode), bool(coloured), str(broken))
                for number, (size, changed, width, height, mode, coloured, broken) in known
                if (size, changed) == self._states[number]
            }
        except (OSError, ValueError, TypeError, LookupError, RecursionError):
            return {}


def facts_of(path: Path | StoredFile) -> FileFacts:
    """Decode a file once."""
    width, height, mode = 0, 0, ""
    try:
        width, height, mode = header_of(path)
        image = decode(path, 3, smallest=THUMBNAIL)
    except UnreadableImage as error:
        return FileFacts(width, height, mode, False, error.reason, isinstance(error, BrokenImage))
    thumbnail = np.asarray(image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)).astype(int)
    return FileFacts(width, height, mode, bool(np.ptp(thumbnail, axis=2).mean() > COLOURED))


def files_below(
    root: str, endings: Collection[str], below: str = "", above: tuple[tuple[int, int], ...] = ()
) -> Iterator[tuple[str, int, int]]:
    """Name below `root`, size and time of change of the files with these endings in the folder `below` and inside it, by name.

    `above` are the folders on the way to it: a link to one of them is not followed.
    """
    folder = f"{root}/{below}" if below else root
    try:
        here = os.stat(folder)
        with os.scandir(folder) as entries:
            entries_by_name = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be read ({error.strerror}); repair or remove it") from error
    identity = (here.st_dev, here.st_ino)
    if identity in above:
        return
    for entry in entries_by_name:
        if entry.name.startswith("."):
            continue
        name = f"{below}/{entry.name}" if below else entry.name
        if entry.is_dir():
            yield from files_below(root, endings, name, (*above, identity))
        elif os.path.splitext(entry.name)[1].lower() in endings:
            try:
                status = entry.stat()
            except OSError:  # a link to nothing
                continue
            if stat.S_ISREG(status.st_mode):
                yield name, status.st_size, status.st_mtime_ns
