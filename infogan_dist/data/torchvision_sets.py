"""Data sets that torchvision downloads, in its layout in data.root."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from torchvision import datasets

from infogan_dist.config.model import DataConfig
from infogan_dist.data.sources import ImageSource, resized
from infogan_dist.errors import UserError
from infogan_dist.registry.data_sets import DATA_SETS

DEFAULT_ROOT = "data"
IDX_LIMIT = 2**30  # bytes of one file, which torchvision reads completely
# Errors of torchvision's reader
_BROKEN_IDX = (OSError, RuntimeError, ValueError, TypeError, AssertionError, LookupError)


def open_mnist_layout(data: DataConfig, split: str) -> ImageSource:
    """The images of a data set in MNIST's layout."""
    return resized(open_torchvision(data, split).data[:, None], data.image_size)


def torchvision_class(data: DataConfig) -> type[Any] | None:
    """The torchvision class that downloads a data set; None if there is none."""
    name = DATA_SETS[data.name].torchvision
    return getattr(datasets, name) if name else None


def open_torchvision(data: DataConfig, split: str) -> Any:
    """A torchvision data set in data.root. If it is missing, one process per host at a time downloads it."""
    dataset, root = torchvision_class(data), data.root or DEFAULT_ROOT
    assert dataset is not None
    found = load_torchvision(dataset, data, split)
    if found is not None:
        return found
    try:
        with _one_process_at_a_time(root), _no_empty_folders(Path(root) / dataset.__name__ / "raw"):
            return dataset(root, train=split == "train", download=True)
    except (RuntimeError, OSError) as error:
        raise UserError(
            f"data.root = {root} holds no {data.name}, and it cannot be downloaded ({' '.join(str(error).split())}); "
            f"set data.root to a folder that holds {dataset.__name__}/raw, or use data.name=mnist-mini"
        ) from error


def load_torchvision(dataset: type[Any], data: DataConfig, split: str) -> Any:
    """A torchvision data set in data.root; None if its files are missing. Raises UserError if they cannot be read."""
    raw = Path(data.root or DEFAULT_ROOT) / dataset.__name__ / "raw"
    try:
        for path in raw.glob("*"):
            if not path.is_file() or path.stat().st_size > IDX_LIMIT:
                raise ValueError(f"{path.name} is not a regular file of at most {IDX_LIMIT} bytes")
        found = dataset(data.root or DEFAULT_ROOT, train=split == "train")
        if found.data.dim() != 3 or not found.data.numel():
            raise ValueError(f"its images have the shape {list(found.data.shape)}")
    except _BROKEN_IDX as error:
        if isinstance(error, RuntimeError) and not _is_complete(dataset, raw):
            return None
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{raw} holds a file that is not of {data.name} ({reason}); remove it, and it is downloaded again"
        ) from error
    return found


def _is_complete(dataset: type[Any], raw: Path) -> bool:
    return all((raw / Path(url).stem).is_file() for url, _checksum in dataset.resources)


@contextmanager
def _one_process_at_a_time(root: str) -> Iterator[None]:
    name = hashlib.sha256(os.path.abspath(root).encode()).hexdigest()[:16]
    with open(Path(tempfile.gettempdir()) / f"infogan_dist-download-{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _no_empty_folders(folder: Path) -> Iterator[None]:
    """On a failure, remove `folder` and its parents, if they are empty and did not exist before."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    except BaseException:
        with suppress(OSError):  # not empty
            for path in missing:
                path.rmdir()
        raise
