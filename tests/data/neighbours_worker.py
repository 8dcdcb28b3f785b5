"""One rank of tests/data/test_neighbours.py: `python -m tests.data.neighbours_worker OUT`, alone or under torchrun."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from infogan_dist.config.model import DataConfig
from infogan_dist.config.running import ProcessesConfig
from infogan_dist.data import neighbours
from infogan_dist.data.sources import PartSource, open_images
from infogan_dist.distributed.group import Group
from infogan_dist.distributed.launcher import Launch

IMAGES = 2500  # three chunks of rows, the last one shorter
PART_SIZE = 900


def main(out: Path) -> None:
    source = PartSource(open_images(DataConfig()), torch.arange(0, 10_000, 10_000 // IMAGES))
    with Group(Launch.from_environment(os.environ), 1, ProcessesConfig()) as group:
        tables = {"whole": neighbours.nearest_neighbours(source, workers=group)}
        neighbours.EXHAUSTIVE_LIMIT, neighbours.PART_SIZE, neighbours._CHUNK = IMAGES - 1, PART_SIZE, 1000
        tables["parts"] = neighbours.nearest_neighbours(source, workers=group)
        if group.rank:
            exact = neighbours.deskewed
            neighbours.deskewed = lambda images: exact(images) + 0.02 * torch.rand_like(images)
        tables["machines that differ"] = neighbours.nearest_neighbours(source, workers=group)
        save_file(tables, out / f"rank{group.rank}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
