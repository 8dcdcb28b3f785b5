"""Reads files that anyone may have made: regular files only, and no more bytes than the reader expects.

A FIFO blocks its reader and a device may have no end, so a name in a run folder is opened only through here. Importing this
module does not import torch.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

HEADER_LIMIT = 2**20  # bytes of a safetensors header: ours have about ten thousand
NAME_LIMIT = 255  # bytes of a file name, on every common file system
PATH_LIMIT = 3000  # bytes of a path: Linux takes 4096, and we add names to it


def open_regular(path: str | Path) -> BufferedReader:
    """The file at `path`, opened for reading. Raises OSError where it is missing or is no regular file; never blocks."""
    if os.path.exists(path):
        _check_regular(os.stat(path), path)  # opening a device may already act on it
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        _check_regular(os.fstat(descriptor), path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: str | Path, limit: int) -> bytes:
    """The whole content of a regular file of at most `limit` bytes. Raises OSError where it is not one."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = b"" if size > limit else file.read(limit + 1 if size == 0 else size + 1)
    if size > limit or len(content) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit} bytes", str(path))
    return content


def check_safetensors_header(path: Path) -> None:
    """Raises OSError unless `path` is a regular file whose first bytes announce a header of a size that we believe."""
    with open_regular(path) as file:
        announced = int.from_bytes(file.read(8), "little")
    if announced > HEADER_LIMIT:
        raise OSError(errno.EFBIG, f"its header has {announced} bytes, more than {HEADER_LIMIT}", str(path))


def path_problem(text: str, name_limit: int = NAME_LIMIT) -> str | None:
    """Why no file can have this path, in words; None where one can."""
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        return "is not valid Unicode"
    if not text:
        return "is empty"
    if "\0" in text:
        return "holds a NUL character"
    if len(encoded) > PATH_LIMIT:
        return f"has {len(encoded)} bytes, more than {PATH_LIMIT}"
    longest = max(map(len, encoded.split(b"/")))
    return f"has a name of {longest} bytes, more than {name_limit}" if longest > name_limit else None


def _check_regular(status: os.stat_result, path: str | Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
