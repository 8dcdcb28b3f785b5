"""Tar files of images (shards, in the webdataset format) as a data set. The images stay in the files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from infogan_dist.config.model import DataConfig
from infogan_dist.data.archives import Member, read_archive
from infogan_dist.data.decoding import ENDINGS
from infogan_dist.data.file_index import FileIndex, files_below
from infogan_dist.data.folder import MOST_NAMED, source_of, warn_once
from infogan_dist.data.sources import ImageSource
from infogan_dist.errors import UserError


def open_shards(data: DataConfig, split: str) -> ImageSource:
    """All images of the shards below data.root, for every split. Raises UserError if there are none or a broken one is known."""
    return source_of(scan_shards(data), data)


def scan_shards(data: DataConfig) -> FileIndex:
    """The images of data.root, a .tar file or a folder with .tar files at any depth, by shard and place in it.

    Raises UserError if there is none, a shard has two images with the same key, or, without data.skip_broken, is damaged.
    """
    root = Path(str(data.root))
    archives = {path: read_archive(path) for path in _shards(root)}
    damaged = [f"{path} ({archive.damage})" for path, archive in archives.items() if archive.damage]
    if damaged:
        more = f", and {len(damaged) - MOST_NAMED} more" if len(damaged) > MOST_NAMED else ""
        found = f"{len(damaged)} of {len(archives):,} shards are damaged: {', '.join(damaged[:MOST_NAMED])}{more}"
        if not data.skip_broken:
            raise UserError(
                f"{found}; repair or remove them, or set data.skip_broken=true to read the images before the damage"
            )
        warn_once(f"{found}; data.skip_broken = true: only the images before the damage are read")
    images = [image for archive in archives.values() for image in _images(archive.members)]
    if not images:
        raise UserError(f"data.root = {root} has shards without images (KEY{', KEY'.join(sorted(ENDINGS))})")
    return FileIndex.of_members(root, images)


def _shards(root: Path) -> list[Path]:
    """The .tar files of data.root by path. Raises UserError if there is none."""
    if root.suffix == ".tar" and not root.is_dir():
        return [root]
    paths = [root / name for name, _, _ in files_below(os.fspath(root), {".tar"})] if root.is_dir() else []
    if not paths:
        raise UserError(f"data.root = {root} is neither a .tar file nor a folder of .tar files; set it to one of them")
    return paths


def _images(members: list[Member]) -> Iterator[Member]:
    """The images among the members of a shard. Names that begin with a dot are left out. Raises UserError for two with one key."""
    names: dict[str, str] = {}
    for member in members:
        if member.ending in ENDINGS and not member.key.endswith("/") and member.key:
            if member.key in names:
                both = f"{names[member.key]} and {member.name}"
                raise UserError(
                    f"the shard {member.archive} has two images with the key {member.key}: {both}; keep one"
                )
            names[member.key] = member.name
            yield member
