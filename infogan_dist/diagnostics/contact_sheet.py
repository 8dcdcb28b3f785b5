"""A contact sheet of a folder's images, as the networks see them."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from infogan_dist.config.model import DataConfig
from infogan_dist.diagnostics.folder_look import FolderLook
from infogan_dist.sampling.captions import Captions
from infogan_dist.sampling.grids import write_grid

COLUMNS = 8
SIDE = 84  # pixels to which small images are enlarged at least: a file name fits below


def write_contact_sheet(look: FolderLook, data: DataConfig, out: Path) -> None:
    """Write the examples of a look with the name, size in pixels and mode of each file below it."""
    names = []
    for number in look.examples():
        facts = look.files.facts[number]
        names.append(f"{PurePosixPath(look.files.names[number]).stem}\n{facts.width} x {facts.height}\n{facts.mode}")
    title = f"{look.files.root.resolve().name}: {len(look.files):,} images, here at {data.image_size} pixels"
    images = look.read(data)
    write_grid(images, min(COLUMNS, len(images)), out, Captions(title, cells=names), -(-SIDE // data.image_size))
