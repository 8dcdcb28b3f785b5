"""Members of uncompressed tar files, read in place. The list of the members of a file is made once and cached."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tarfile
import weakref
from contextlib import suppress
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from infogan_dist.errors import UserError
from infogan_dist.files import atomic_write, cache_folder, open_regular, read_regular

SCHEMA = 1
CACHE_LIMIT = 2**30  # bytes: a million members have about 40 MB
MEMBER_LIMIT = 2**30  # bytes: a member is read at once
OPEN_ARCHIVES = 128  # files that stay open: many systems allow a process 1024


class Member(NamedTuple):
    """A plain file in a tar file."""

    archive: Path
    changed: int
    """The time of change of the archive when its members were listed, nanoseconds."""
    name: str
    offset: int
    """Where its content begins in the archive, bytes."""
    size: int

    def __str__(self) -> str:
        return f"{self.archive}/{self.name}"

    @property
    def key(self) -> str:
        """The sample that the member belongs to in the webdataset format: its name up to the first dot after the last slash."""
        folder, slash, name = self.name.rpartition("/")
        return folder + slash + name.partition(".")[0]

    @property
    def ending(self) -> str:
        """The rest of the name after its key, in lower case: `.png`."""
        return self.name[len(self.key) :].lower()

    def open(self) -> BytesIO:
        """The content. Raises OSError if the archive cannot be read or has changed, ValueError if it ends too early."""
        if self.size > MEMBER_LIMIT:
            raise ValueError(f"it has {self.size} bytes, more than {MEMBER_LIMIT}")
        content = _opened(self.archive, self.changed).read(self.size, self.offset)
        if len(content) < self.size:
            raise ValueError(f"its archive ends after {len(content)} of {self.size} bytes")
        return BytesIO(content)


class Archive(NamedTuple):
    """The plain files in a tar file, in its order. Of a damaged file, those before the damage."""

    members: list[Member]
    damage: str
    """Why the file is damaged; empty if it is not."""


def read_archive(path: Path) -> Archive:
    """The members of an uncompressed tar file. Raises UserError if it cannot be opened."""
    try:
        status = path.stat()
        state = [status.st_size, status.st_mtime_ns]
        name = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:16]
        cache = cache_folder() / "archives" / f"{name}.json"
        archive = _cached(cache, path, state)
        if archive is None:
            archive = _listed(path, status.st_mtime_ns)
            _remember(cache, archive, state)
        return archive
    except OSError as error:
        raise UserError(f"the shard {path} cannot be read ({error.strerror}); repair or remove it") from error


def _listed(path: Path, changed: int) -> Archive:
    members: list[Member] = []
    damage, end = "", 0  # end: of the last header
    try:
        with open_regular(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            length = os.fstat(file.fileno()).st_size
            for each in archive:
                archive.members.clear()  # type: ignore[attr-defined]  # tarfile keeps them, about 1 kB each
                if each.size < 0 or each.offset < end:  # tarfile would go backwards, perhaps for ever
                    raise ValueError(f"{each.name} has a negative size")
                end = each.offset_data
                if end + each.size > length:
                    raise ValueError(f"it ends inside {each.name}")
                if each.issym() or each.islnk() or each.issparse():
                    damage = damage or f"{each.name} is a link or a sparse file; pack its content"
                elif each.isreg():
                    members.append(Member(path, changed, each.name, each.offset_data, each.size))
            file.seek(archive.offset)  # of the end mark: tarfile also stops, without an error, at a damaged header
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise ValueError(f"neither a header nor the end of the archive is at byte {archive.offset}")
    except MemoryError:
        raise
    except Exception as error:  # a damaged header: TarError, ValueError, OverflowError, RecursionError, ...
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = " ".join(str(error).split())
        damage = reason if end else f"it is not an uncompressed tar file: {reason}"
    return Archive(members, damage)


def _cached(cache: Path, path: Path, state: list[int]) -> Archive | None:
    """The archive as it was listed; None if it has changed or the cache is damaged."""
    with suppress(OSError, ValueError, TypeError, LookupError, RecursionError):
        content = json.loads(read_regular(cache, CACHE_LIMIT))
        if content["schema"] == SCHEMA and content["state"] == state:
            members = [Member(path, state[1], str(name), int(at), int(size)) for name, at, size in content["members"]]
            return Archive(members, str(content["damage"]))
    return None


def _remember(cache: Path, archive: Archive, state: list[int]) -> None:
    """Write the list to the cache. A cache that cannot be written is ignored."""
    content = {
        "schema": SCHEMA,
        "state": state,
        "damage": archive.damage,
        "members": [[each.name, each.offset, each.size] for each in archive.members],
    }
    with suppress(OSError):
        cache.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(cache, durable=False) as partial:
            partial.write_text(json.dumps(content, separators=(",", ":")))


class _Opened:
    """An open archive. It is closed when it is not in the cache below and no thread reads it."""

    def __init__(self, path: Path, changed: int):
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_mtime_ns != changed:
                raise OSError(errno.ESTALE, "its archive has changed since it was opened; start again", str(path))
            self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)

    def read(self, size: int, offset: int) -> bytes:
        # not mmap: reading a mapped file that another program has truncated ends the process
        return os.pread(self._descriptor, size, offset)


_opened = lru_cache(OPEN_ARCHIVES)(_Opened)
