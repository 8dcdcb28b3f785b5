"""Reads files that anyone may have made: regular files only, and no more bytes than the reader expects. Writes files whole.

A FIFO blocks its reader and a device may have no end, so a name in a run folder is opened only through here. Importing this
module does not import torch.
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


@contextmanager
def atomic_write(path: Path, durable: bool = True) -> Iterator[Path]:
    """Within, write to the path that this yields: afterwards it takes the place of `path`, whole, and `durable` on the disk.

    Where writing fails, `path` is as it was. Two processes may write to one `path`; the last one stands.
    """
    partial = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    partial.unlink(missing_ok=True)  # of a dead process of this number: a FIFO, or a link to a file of someone else
    try:
        yield partial
        if durable:  # else a power cut may leave the new name with nothing in it
            sync(partial)
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Within, write into the new folder that this yields: afterwards it takes the place of `path`, which is missing or an empty
    folder. Where writing fails, `path` is as it was."""
    partial = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    shutil.rmtree(partial, ignore_errors=True)  # of a dead process of this number
    partial.mkdir()
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write one safetensors file, the same bytes for the same content. Raises OSError.

    Its permissions follow the umask, as of every file that `open` makes; the library's own `save_file` lets only the owner read.
    """
    from safetensors.torch import save

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = save(contiguous, dict(metadata) if metadata is not None else None)
    path.write_bytes(_with_sorted_metadata(content) if metadata else content)


def _with_sorted_metadata(content: bytes) -> bytes:
    """The same file with its metadata in order: the library writes them in another one each time."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight bytes
    return len(text).to_bytes(8, "little") + text + content[end:]


def sync(path: Path) -> None:
    """Make what was written to a file, or named in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
