"""Labels of a folder of images: the names of its subfolders. Only `evaluation` may import it."""

from __future__ import annotations

import torch
from torch import Tensor

from infogan_dist.config.model import DataConfig
from infogan_dist.data.file_index import FileIndex
from infogan_dist.data.folder import scan, shown
from infogan_dist.errors import printable


def classes_of(data: DataConfig) -> tuple[str, ...]:
    """The names of the subfolders that images are in, sorted; empty for fewer than two, or where an image is in none."""
    found = set(_subfolders(scan(data)))
    return tuple(map(printable, sorted(found))) if len(found) > 1 and "" not in found else ()


def labels_of(data: DataConfig, split: str) -> Tensor:
    """The label of every image, int64 [N]: the number of its subfolder. With `data.skip_broken` a broken file has the label of the
    file that takes its place."""
    files = scan(data)
    numbers = {name: number for number, name in enumerate(sorted(set(_subfolders(files))))}
    return of_shown(torch.tensor([numbers[name] for name in _subfolders(files)]), files, data)


def of_shown(labels: Tensor, files: FileIndex, data: DataConfig) -> Tensor:
    """The labels of the images that are read, int64 [N], for those of the files: with `data.skip_broken` a broken file is replaced."""
    if not data.skip_broken:
        return labels
    files.check(show_progress=True)
    return labels[shown({number for number in files.broken if files.is_broken(number)}, len(files))]


def _subfolders(files: FileIndex) -> list[str]:
    """The subfolder of data.root that each file is in, at any depth; empty for those directly in it."""
    return [name.partition("/")[0] if "/" in name else "" for name in files.names]
