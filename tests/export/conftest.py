"""A trained run whose images lie in a folder of its own, and what exports are held against."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from infogan_dist.training.loop import train
from tests.conftest import ONE_PROCESS, tiny
from tests.export.paths import SECRET

NAMES = {"code": "categorical_0", "labels": {"0": 7, "2": 4}, "code_error": 0.1, "data": "mnist", "step": 6}


@pytest.fixture(scope="package")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a folder of images, with two continuous codes and names for two of its classes."""
    folder = tmp_path_factory.mktemp(SECRET)
    images = folder / f"{SECRET}-images"
    images.mkdir()
    pixels = torch.randint(0, 256, (24, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image.numpy()).save(images / f"{number}.png")
    data = f"data={{name: folder, root: '{images}', image_size: 28, channels: 1}}"
    train(tiny(folder / "run", data, "train.precision=fp32"), ONE_PROCESS)
    (folder / "run" / "code_names.json").write_text(json.dumps(NAMES))
    return folder / "run"
