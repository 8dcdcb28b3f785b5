"""A trained run on a folder of images, the names of its codes, and Chromium, without which tests of pages are skipped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from infogan_dist.training.loop import train
from tests.conftest import ONE_PROCESS, tiny
from tests.export.paths import SECRET

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
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


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A running browser; skips where Playwright or Chromium is missing."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="Playwright is not installed: pip install playwright"
    )
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=path, args=list(OPTIONS))
        yield browser
        browser.close()
