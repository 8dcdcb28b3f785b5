"""The files that classes of torchvision.datasets read. To add a class, add a function that lists its files and a `Layout`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchvision import datasets

CELEBA_IMAGES = "img_align_celeba"  # a folder


@dataclass(frozen=True)
class Layout:
    """A class of torchvision.datasets and its files below data.root."""

    dataset: type[Any]
    list_files: Callable[[Any, str], dict[str, str | None]]
    """Maps the class and "train" or "test" to the paths that it reads, each with the MD5 checksum that it compares."""
    list_urls: Callable[[Any], list[str]]
    """Addresses of one file that is downloaded; empty if torchvision cannot download it."""
    needed: str
    """What data.root must hold, for messages."""
    takes_split: bool = False
    """Whether the class takes `split` instead of `train`."""
    check: Callable[[Any], None] = lambda found: None
    """Raises ValueError for content that the class does not check."""

    def files(self, split: str) -> dict[str, str | None]:
        return self.list_files(self.dataset, split)

    @property
    def urls(self) -> list[str]:
        return self.list_urls(self.dataset)

    def open(self, root: str, split: str, **options: bool) -> Any:
        """The data set in `root`. Raises RuntimeError if files are missing or have another checksum."""
        part = {"split": split} if self.takes_split else {"train": split == "train"}
        return self.dataset(root, **part, **options)


def _mnist_files(dataset: Any, split: str) -> dict[str, str | None]:
    """torchvision compares the checksums of the archives only."""
    return {f"{dataset.__name__}/raw/{Path(name).stem}": None for name, _ in dataset.resources}


def _check_mnist(found: Any) -> None:
    if found.data.dim() != 3 or not found.data.numel():
        raise ValueError(f"its images have the shape {list(found.data.shape)}")


def _svhn_files(dataset: Any, split: str) -> dict[str, str | None]:
    _, name, checksum = dataset.split_list[split]
    return {name: checksum}


def _cifar10_files(dataset: Any, split: str) -> dict[str, str | None]:
    """Pickles. torchvision reads one only if its checksum is right."""
    listed = [*dataset.train_list, *dataset.test_list, (dataset.meta["filename"], dataset.meta["md5"])]
    return {f"{dataset.base_folder}/{name}": checksum for name, checksum in listed}


def _celeba_files(dataset: Any, split: str) -> dict[str, str | None]:
    tables: dict[str, str | None] = {name: checksum for _, checksum, name in dataset.file_list if name.endswith(".txt")}
    return {f"{dataset.base_folder}/{name}": checksum for name, checksum in {CELEBA_IMAGES: None, **tables}.items()}


def _of_mnist(dataset: type[Any]) -> Layout:
    return Layout(
        dataset,
        _mnist_files,
        lambda dataset: [mirror + dataset.resources[0][0] for mirror in dataset.mirrors],
        f"{dataset.__name__}/raw",
        check=_check_mnist,
    )


LAYOUTS = {
    "MNIST": _of_mnist(datasets.MNIST),
    "FashionMNIST": _of_mnist(datasets.FashionMNIST),
    "KMNIST": _of_mnist(datasets.KMNIST),
    "SVHN": Layout(
        datasets.SVHN,
        _svhn_files,
        lambda dataset: [dataset.split_list["train"][0]],
        "train_32x32.mat and test_32x32.mat",
        takes_split=True,
    ),
    "CIFAR10": Layout(datasets.CIFAR10, _cifar10_files, lambda dataset: [dataset.url], "cifar-10-batches-py"),
    "CelebA": Layout(
        datasets.CelebA,
        _celeba_files,
        lambda dataset: [],  # torchvision needs another package for it, and Google Drive refuses most downloads
        "celeba with list_eval_partition.txt, list_attr_celeba.txt, list_bbox_celeba.txt, list_landmarks_align_celeba.txt, "
        f"identity_CelebA.txt and the unpacked img_align_celeba.zip ({CELEBA_IMAGES}/000001.jpg), from "
        "mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
        takes_split=True,
    ),
}
