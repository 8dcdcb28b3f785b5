"""Where images come from: each source answers for any image by its index, as uint8, and knows no labels.

Which data set is opened by which function: registry/data_sets.py.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision import datasets
from torchvision.transforms.v2.functional import pil_to_tensor, resize

from infogan_dist.config.model import DataConfig
from infogan_dist.data import mnist_mini
from infogan_dist.errors import UserError
from infogan_dist.files import open_regular
from infogan_dist.randomness import Stream
from infogan_dist.registry.data_sets import DATA_SETS

DEFAULT_ROOT = "data"
IMAGE_ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
# Pillow tries every format it knows by a file's content, and for PostScript runs Ghostscript: only these are tried.
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
IDX_LIMIT = 2**30  # bytes of one file of torchvision's layout, which is read whole
MOST_PIXELS = 64 * 2**20  # of one file, decoded whole: a small file may say that it holds terabytes
_BROKEN_IDX = (
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    AssertionError,
    LookupError,
)  # what torchvision's reader raises
_RESIZE_CHUNK = 4096  # images resized at a time, to bound the float32 copies


class UnreadableImage(UserError):
    """A file that is no sound image; the process whose share of a batch it lies in may be the only one that knows."""

    concerns_one_rank = True


class ImageSource(Protocol):
    """Images of one size by index."""

    def __len__(self) -> int: ...

    def read(self, indexes: Tensor) -> Tensor:
        """uint8 [len(indexes), C, H, W] on the CPU, for int64 indexes on the CPU."""


class ArraySource:
    """Images that are in memory, uint8 [N, C, H, W]."""

    def __init__(self, images: Tensor):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indexes: Tensor) -> Tensor:
        return self.images[indexes]


class FolderSource:
    """The image files below a folder in the order of their names; each is decoded when it is read."""

    def __init__(self, paths: list[Path], channels: int, image_size: int):
        self._paths, self._mode, self._size = paths, {1: "L", 3: "RGB"}[channels], image_size
        self._decoders = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, indexes: Tensor) -> Tensor:
        return torch.stack(list(self._decoders.map(self._decode, indexes.tolist())))

    def _decode(self, index: int) -> Tensor:
        try:
            with open_regular(self._paths[index]) as content, Image.open(content, formats=IMAGE_FORMATS) as file:
                if file.width * file.height > MOST_PIXELS:
                    raise ValueError(f"{file.width} x {file.height} pixels are more than {MOST_PIXELS}")
                image = ImageOps.exif_transpose(file).convert(self._mode)
                return pil_to_tensor(ImageOps.fit(image, (self._size, self._size), Image.Resampling.BICUBIC))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            path, reason = self._paths[index], str(error)
            if isinstance(error, UnidentifiedImageError):
                reason = f"cannot identify it as one of {', '.join(IMAGE_FORMATS)}"
            raise UnreadableImage(f"cannot read the image {path}: {reason}; mend or remove it") from error


class PartSource:
    """The images of another source at some of its indexes."""

    def __init__(self, source: ImageSource, indexes: Tensor):
        self._source, self._indexes = source, indexes

    def __len__(self) -> int:
        return len(self._indexes)

    def read(self, indexes: Tensor) -> Tensor:
        return self._source.read(self._indexes[indexes])


def open_images(data: DataConfig, split: str = "train") -> ImageSource:
    """The images of a data set's `train` or `test` part, without labels; downloads what torchvision can.

    With `data.held_out`, `test` is the train images that `train` leaves out; else a data set without a test part gives all its
    images as both. Raises UserError where the files are missing and cannot be had, or no image is left to train on.
    """
    source: ImageSource = DATA_SETS.load(data.name, "open", Callable)(data, file_split(data, split))
    part = part_of(data, split, len(source))
    return source if part is None else PartSource(source, part)


def scored_split(data: DataConfig, trained_on: bool = True) -> str:
    """Which images an evaluation scores: `test`, `held-out train images`, or `train` where there are no others.

    `trained_on`: whether the run was trained on this data set. Images of a folder that it was not trained on are `test`.
    """
    if data.held_out:
        return "held-out train images"
    return "test" if DATA_SETS[data.name].has_test_part or not trained_on else "train"


def images_of(split: str) -> str:
    """A split in words: `test images`."""
    return split if split.endswith("images") else f"{split} images"


def file_split(data: DataConfig, split: str) -> str:
    """The part of the files that a split lies in."""
    return "train" if data.held_out else split


def part_of(data: DataConfig, split: str, size: int) -> Tensor | None:
    """The indexes of a split among the `size` images of its `file_split`, int64, in order; None where it is all of them.

    Which are held out is the same for every seed and every config.
    """
    if not data.held_out:
        return None
    if data.held_out >= size:
        raise UserError(f"data.held_out = {data.held_out} leaves none of the {size} train images; lower it")
    order = Stream(0, "held out").permutation(0, size)
    return (order[: data.held_out] if split == "test" else order[data.held_out :]).sort().values


def torchvision_class(data: DataConfig) -> type[Any] | None:
    """The class of torchvision that downloads a data set; None where torchvision does not."""
    name = DATA_SETS[data.name].torchvision
    return getattr(datasets, name) if name else None


def open_torchvision(data: DataConfig, split: str) -> Any:
    """A torchvision data set below data.root, downloaded first where it is missing, by one process of a host at a time."""
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
    """A torchvision data set below data.root; None where its files are not there. Raises UserError where they cannot be read."""
    raw = Path(data.root or DEFAULT_ROOT) / dataset.__name__ / "raw"
    try:
        for path in raw.glob("*"):
            if not path.is_file() or path.stat().st_size > IDX_LIMIT:
                raise ValueError(f"{path.name} is no regular file of at most {IDX_LIMIT} bytes")
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


def open_from_torchvision(data: DataConfig, split: str) -> ImageSource:
    return _resized(open_torchvision(data, split).data, data)


def open_mnist_mini(data: DataConfig, split: str) -> ImageSource:
    return _resized(torch.from_numpy(mnist_mini.load(split)[0]), data)


def open_folder(data: DataConfig, split: str) -> ImageSource:
    root = Path(data.root or DEFAULT_ROOT)
    if not root.is_dir():
        raise UserError(f"data.root = {root} is not a folder; set it to the folder of images")
    below = sorted(path for path in root.rglob("*") if path.suffix.lower() in IMAGE_ENDINGS and path.is_file())
    if not below:
        raise UserError(f"data.root = {root} holds no images ({', '.join(sorted(IMAGE_ENDINGS))})")
    return FolderSource(below, data.channels, data.image_size)


def _resized(images: Tensor, data: DataConfig) -> ImageSource:
    """Grey images [N, H, W] as a source of the config's size."""
    images, size = images[:, None], [data.image_size, data.image_size]
    if list(images.shape[2:]) != size:
        images = torch.cat([resize(chunk, size, antialias=True) for chunk in images.split(_RESIZE_CHUNK)])
    return ArraySource(images)


@contextmanager
def _one_process_at_a_time(root: str) -> Iterator[None]:
    name = hashlib.sha256(os.path.abspath(root).encode()).hexdigest()[:16]
    with open(Path(tempfile.gettempdir()) / f"infogan_dist-download-{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _no_empty_folders(folder: Path) -> Iterator[None]:
    """On a failure, remove `folder` and those above it again, where they are empty and did not exist before."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    except BaseException:
        with suppress(OSError):  # not empty
            for path in missing:
                path.rmdir()
        raise
