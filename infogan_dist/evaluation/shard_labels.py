"""Labels of shards: integers in the members KEY.cls. Only `evaluation` may import it."""

from __future__ import annotations

import torch
from torch import Tensor

from infogan_dist.config.model import DataConfig
from infogan_dist.data.archives import Member, read_archive
from infogan_dist.data.file_index import FileIndex
from infogan_dist.data.shards import scan_shards
from infogan_dist.errors import UserError
from infogan_dist.evaluation.folder_labels import of_shown

LABEL_LIMIT = 32  # bytes of a label


def classes_of(data: DataConfig) -> tuple[str, ...]:
    """The labels that occur, in order; empty for fewer than two, or where an image has no label."""
    found = set(_labels(scan_shards(data)))
    return tuple(map(str, sorted(found))) if len(found) > 1 else ()


def labels_of(data: DataConfig, split: str) -> Tensor:
    """The label of every image as its number among `classes_of`, int64 [N]. With `data.skip_broken` a broken image has the label of
    the image that takes its place."""
    files = scan_shards(data)
    labels = _labels(files)
    numbers = {label: number for number, label in enumerate(sorted(set(labels)))}
    return of_shown(torch.tensor([numbers[label] for label in labels]), files, data)


def _labels(files: FileIndex) -> list[int]:
    """The integer in KEY.cls for each image; empty if an image has none. Raises UserError for other content."""
    images = [image for image in map(files.path, range(len(files))) if isinstance(image, Member)]
    archives = dict.fromkeys(image.archive for image in images)
    found = {
        (path, member.key): member
        for path in archives
        for member in read_archive(path).members
        if member.ending == ".cls"
    }
    members = [found.get((image.archive, image.key)) for image in images]
    return [_label(member) for member in members if member is not None] if None not in members else []


def _label(member: Member) -> int:
    try:
        if member.size > LABEL_LIMIT:
            raise ValueError(f"it has {member.size} bytes")
        return int(member.open().read())
    except (OSError, ValueError) as error:
        raise UserError(f"the label {member} is not an integer ({error}); correct it, or remove all labels") from error
