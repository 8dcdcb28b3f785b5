"""Small random images in the layouts of torchvision's data sets, and the checksums that the classes then need. A folder of images."""

from __future__ import annotations

import hashlib
import pickle
import struct
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

COUNTS = {"train": 40, "test": 20}
Patches = list[tuple[type[Any], str, object]]


def write_mnist_layout(dataset: type[datasets.MNIST], root: Path) -> Patches:
    """Grey 28 x 28 images with the labels 0 to 9. torchvision compares no checksums of unpacked files."""
    folder = root / dataset.__name__ / "raw"
    folder.mkdir(parents=True)
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images = np.ascontiguousarray(_images(COUNTS[split], split)[:, :28, :28, 0])
        labels = (np.arange(len(images)) % 10).astype(np.uint8)
        for name, values in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(f">I{values.ndim}I", 0x0800 + values.ndim, *values.shape)
            (folder / f"{prefix}-{name}-ubyte").write_bytes(header + values.tobytes())
    return []


def write_svhn(root: Path) -> Patches:
    """The digit 0 has the label 10 in the files."""
    listed = dict(datasets.SVHN.split_list)
    for split, count in COUNTS.items():
        url, name, _ = listed[split]
        labels = np.arange(count)[:, None] % 10
        savemat(root / name, {"X": _images(count, split).transpose(1, 2, 3, 0), "y": np.where(labels, labels, 10)})
        listed[split] = [url, name, _md5(root / name)]
    return [(datasets.SVHN, "split_list", listed)]


def write_cifar10(root: Path) -> Patches:
    folder = root / datasets.CIFAR10.base_folder
    folder.mkdir()

    def written(names: list[Any], split: str) -> list[list[str]]:
        images, listed = _images(COUNTS[split], split).transpose(0, 3, 1, 2), []
        for part, (name, _) in zip(np.array_split(np.arange(len(images)), len(names)), names, strict=True):
            batch = {"data": images[part].reshape(len(part), -1), "labels": (part % 10).tolist()}
            (folder / name).write_bytes(pickle.dumps(batch))
            listed.append([name, _md5(folder / name)])
        return listed

    meta = folder / datasets.CIFAR10.meta["filename"]
    meta.write_bytes(pickle.dumps({"label_names": [str(number) for number in range(10)]}))
    return [
        (datasets.CIFAR10, "train_list", written(datasets.CIFAR10.train_list, "train")),
        (datasets.CIFAR10, "test_list", written(datasets.CIFAR10.test_list, "test")),
        (datasets.CIFAR10, "meta", {**datasets.CIFAR10.meta, "md5": _md5(meta)}),
    ]


def write_celeba(root: Path) -> Patches:
    folder = root / datasets.CelebA.base_folder
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{number:06}.jpg" for number in range(1, sum(COUNTS.values()) + 1)]
    for number, name in enumerate(names):
        shade = (4 * number, 255 - 4 * number, 128)
        Image.new("RGB", (178, 218), shade).save(folder / "img_align_celeba" / name, quality=95)
    header, parts = f"{len(names)}\n", [0] * COUNTS["train"] + [2] * COUNTS["test"]
    tables = {
        "list_eval_partition.txt": [f"{name} {part}" for name, part in zip(names, parts, strict=True)],
        "identity_CelebA.txt": [f"{name} 1" for name in names],
        "list_bbox_celeba.txt": [header + "image_id x_1 y_1 width height", *(f"{name} 0 0 9 9" for name in names)],
        "list_landmarks_align_celeba.txt": [header + "x y", *(f"{name} 1 2" for name in names)],
        "list_attr_celeba.txt": [header + "Smiling", *(f"{name} -1" for name in names)],
    }
    for name, lines in tables.items():
        (folder / name).write_text("\n".join(lines) + "\n")
    listed = [
        (address, _md5(folder / name) if name in tables else checksum, name)
        for address, checksum, name in datasets.CelebA.file_list
    ]
    return [(datasets.CelebA, "file_list", listed)]


def write_folder(root: Path) -> Patches:
    """PNG files in two subfolders of `root`/folder, half of them wider than high."""
    for number, image in enumerate(_images(COUNTS["train"], "train")):
        path = root / "folder" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[: 32 - 8 * (number % 4 // 2)]).save(path)
    return []


WRITERS = {"svhn": write_svhn, "cifar10": write_cifar10, "celeba": write_celeba}  # in colour
GREY_WRITERS = {
    "mnist": partial(write_mnist_layout, datasets.MNIST),
    "fashion-mnist": partial(write_mnist_layout, datasets.FashionMNIST),
    "kmnist": partial(write_mnist_layout, datasets.KMNIST),
}


def _images(count: int, split: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """uint8 [count, 32, 32, 3]; pixel (0, 1) of an image is its number in red, 1 in green and 2 in blue."""
    images = np.random.default_rng(len(split)).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    images[:, 0, 1] = np.stack([np.arange(count), np.full(count, 1), np.full(count, 2)], axis=1)
    return images


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
