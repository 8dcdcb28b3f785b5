"""Reads untrusted files (regular files only, of limited size) and writes files atomically. Does not import torch.

Run folders are read through this module: a FIFO would block the reader, and a device may be endless.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

HEADER_LIMIT = 2**20  # bytes of a safetensors header; ours have about 10,000
NAME_LIMIT = 255  # bytes of a file name, on every common file system
PATH_LIMIT = 3000  # bytes of a path: Linux allows 4096, and file names are appended to it


def open_regular(path: str | Path) -> BufferedReader:
    """Open the file at `path` for reading, without blocking. Raises OSError if it is missing or not a regular file."""
    if os.path.exists(path):
        _check_regular(os.stat(path), path)  # opening a device can have side effects
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        _check_regular(os.fstat(descriptor), path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: str | Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes. Raises OSError for any other file."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = b"" if size > limit else file.read(limit + 1 if size == 0 else size + 1)
    if size > limit or len(content) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit} bytes", str(path))
    return content


def cache_folder() -> Path:
    """Where results that can be computed again are kept: infogan_dist below XDG_CACHE_HOME, or below ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "infogan_dist"


@contextmanager
def atomic_write(path: Path, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path to write to, then rename it to `path`; with `durable`, fsync it first.

    If writing fails, `path` is unchanged. Two processes may write to one `path`: the last rename wins.
    """
    partial = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    partial.unlink(missing_ok=True)  # left by a dead process with this pid; it may be a FIFO or a link
    try:
        yield partial
        if durable:  # otherwise a power cut may leave `path` empty
            sync(partial)
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder to write to, then rename it to `path`, which must be missing or an empty folder.

    If writing fails, `path` is unchanged.
    """
    partial = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    shutil.rmtree(partial, ignore_errors=True)  # left by a dead process with this pid
    partial.mkdir()
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file, with the same bytes for the same content. Raises OSError.

    Its permissions follow the umask. The library's `save_file` makes files that only the owner can read.
    """
    from safetensors.torch import save

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = save(contiguous, dict(metadata) if metadata is not None else None)
    path.write_bytes(_with_sorted_metadata(content) if metadata else content)


def _with_sorted_metadata(content: bytes) -> bytes:
    """The same file with sorted metadata. The library writes them in a different order each time."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text + content[end:]


def sync(path: Path) -> None:
    """fsync a file or folder, so that it survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_safetensors_header(path: Path) -> None:
    """Raises OSError unless `path` is a regular file whose safetensors header has at most HEADER_LIMIT bytes."""
    with open_regular(path) as file:
        announced = int.from_bytes(file.read(8), "little")
    if announced > HEADER_LIMIT:
        raise OSError(errno.EFBIG, f"its header has {announced} bytes, more than {HEADER_LIMIT}", str(path))


def path_problem(text: str, name_limit: int = NAME_LIMIT) -> str | None:
    """Why `text` is not a valid path, as the end of a sentence; None if it is valid."""
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        return "is not valid Unicode"
    if not text:
        return "is empty"
    if "\0" in text:
        return "contains a NUL character"
    if len(encoded) > PATH_LIMIT:
        return f"has {len(encoded)} bytes, more than {PATH_LIMIT}"
    longest = max(map(len, encoded.split(b"/")))
    return f"has a name of {longest} bytes, more than {name_limit}" if longest > name_limit else None


def _check_regular(status: os.stat_result, path: str | Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
