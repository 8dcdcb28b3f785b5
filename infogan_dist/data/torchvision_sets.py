"""Data sets that torchvision reads, in its layout in data.root. It downloads all of them but CelebA."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.datasets.utils import check_integrity
from torchvision.transforms.v2.functional import pil_to_tensor

from infogan_dist.config.model import DataConfig
from infogan_dist.data.decoding import decode
from infogan_dist.data.sources import ImageSource, resized
from infogan_dist.data.torchvision_layouts import CELEBA_IMAGES, LAYOUTS, Layout
from infogan_dist.errors import UserError
from infogan_dist.registry.data_sets import DATA_SETS

DEFAULT_ROOT = "data"
FILE_LIMIT = 2**30  # bytes of one file, which torchvision reads completely
DECODERS = 8  # threads that decode image files
# Errors of torchvision's readers
_BROKEN = (OSError, RuntimeError, ValueError, TypeError, AssertionError, LookupError)


def open_mnist_layout(data: DataConfig, split: str) -> ImageSource:
    """The images of a data set in MNIST's layout."""
    return resized(open_torchvision(data, split).data[:, None], data.image_size)


def open_svhn(data: DataConfig, split: str) -> ImageSource:
    """The 32 x 32 crops of house numbers, without the `extra` part."""
    return resized(torch.from_numpy(np.ascontiguousarray(open_torchvision(data, split).data)), data.image_size)


def open_cifar10(data: DataConfig, split: str) -> ImageSource:
    images = torch.from_numpy(open_torchvision(data, split).data)
    return resized(images.permute(0, 3, 1, 2).contiguous(), data.image_size)


def open_celeba(data: DataConfig, split: str) -> ImageSource:
    """The aligned faces, 178 x 218 pixels, cropped to the central square."""
    found = open_torchvision(data, split)
    folder = Path(found.root, found.base_folder, CELEBA_IMAGES)
    return ImageFiles([folder / name for name in found.filename], data)


class ImageFiles:
    """The image files at `paths`. Each is decoded, cropped to a square and resized when it is read."""

    def __init__(self, paths: list[Path], data: DataConfig):
        self._paths, self._data = paths, data
        self._decoders = ThreadPoolExecutor(DECODERS)

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, indexes: Tensor) -> Tensor:
        return torch.stack(list(self._decoders.map(self._decode, indexes.tolist())))

    def _decode(self, index: int) -> Tensor:
        image, size = decode(self._paths[index], self._data.channels), (self._data.image_size,) * 2
        return pil_to_tensor(ImageOps.fit(image, size, Image.Resampling.BICUBIC))


def layout_of(data: DataConfig) -> Layout | None:
    """The layout of a data set that torchvision reads; None for any other."""
    name = DATA_SETS[data.name].torchvision
    return LAYOUTS[name] if name else None


def open_torchvision(data: DataConfig, split: str) -> Any:
    """A torchvision data set in data.root. If files are missing, one process per host at a time downloads them.

    Raises UserError if they are missing and cannot be downloaded, or cannot be read.
    """
    found = load_torchvision(data, split)
    if found is not None:
        return found
    layout, root = layout_of(data), data.root or DEFAULT_ROOT
    assert layout is not None
    if not layout.urls:
        raise UserError(missing(data, "torchvision does not download it"))
    first = Path(root, next(iter(layout.files(split))))
    try:
        with _locked(root, fcntl.LOCK_EX), _no_empty_folders(first.parent):
            return layout.open(root, split, download=True)
    except (RuntimeError, OSError) as error:
        raise UserError(missing(data, f"it cannot be downloaded ({' '.join(str(error).split())})")) from error


def load_torchvision(data: DataConfig, split: str) -> Any:
    """A torchvision data set in data.root; None if its files are missing. Raises UserError if they cannot be read."""
    layout, root = layout_of(data), data.root or DEFAULT_ROOT
    assert layout is not None
    files = {Path(root, path): checksum for path, checksum in layout.files(split).items()}
    with _locked(root, fcntl.LOCK_SH):  # waits for a download by another process
        if not all(os.path.lexists(path) for path in files):
            return None
        reason = _unreadable(files)
        try:
            found = None if reason else layout.open(root, split)
            if found is not None:
                layout.check(found)
                return found
        except _BROKEN as error:
            reason = _changed(files) or " ".join(str(error).split()) or type(error).__name__
    again = "and it is downloaded again" if layout.urls else "and copy it there again"
    folder = next(iter(files)).parent
    raise UserError(f"{folder} holds a file that is not of {data.name} ({reason}); remove it, {again}")


def missing(data: DataConfig, reason: str) -> str:
    """The message for a data set that is not in data.root and, for `reason`, cannot be had."""
    layout, offline = layout_of(data), "mnist-mini" if data.channels == 1 else "scenes"
    assert layout is not None
    return (
        f"data.root = {data.root or DEFAULT_ROOT} holds no {data.name}, and {reason}; set data.root to a folder that holds "
        f"{layout.needed}, or use data.name={offline}"
    )


def _unreadable(files: dict[Path, str | None]) -> str:
    """The first file that is not a regular one of a plausible size, for a message; empty if there is none."""
    for path in files:
        if path.name != CELEBA_IMAGES and (not path.is_file() or path.stat().st_size > FILE_LIMIT):
            return f"{path.name} is not a regular file of at most {FILE_LIMIT} bytes"
    return ""


def _changed(files: dict[Path, str | None]) -> str:
    """The files with another MD5 checksum, for a message; empty if there are none."""
    names = [path.name for path, checksum in files.items() if checksum and not check_integrity(path, checksum)]
    return f"the MD5 checksum of {', '.join(names)} is another one" if names else ""


@contextmanager
def _locked(root: str, mode: int) -> Iterator[None]:
    """Hold a lock for `root` on this host: fcntl.LOCK_SH to read, LOCK_EX to download."""
    name = hashlib.sha256(os.path.abspath(root).encode()).hexdigest()[:16]
    with open(Path(tempfile.gettempdir()) / f"infogan_dist-download-{os.getuid()}-{name}.lock", "w") as lock:
        fcntl.flock(lock, mode)
        yield


@contextmanager
def _no_empty_folders(folder: Path) -> Iterator[None]:
    """On a failure, remove `folder` and its parents, if they are empty and did not exist before."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    except BaseException:
        with suppress(OSError):  # not empty
            for path in made:
                path.rmdir()
        raise
