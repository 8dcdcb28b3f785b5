"""Runs that were never trained, with scores, curves and grids as training and evaluate write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.conftest import untrained

NAN_STEP = 7  # of the rows of a run, whose loss is not finite


def make_run(folder: Path, *overrides: str, steps: int = 30) -> Path:
    run = untrained(folder, *overrides)
    rows: list[dict[str, Any]] = [
        {
            **{"kind": "train", "step": step, "images_seen": 12 * step, "mi/categorical_0": 0.07 * step},
            **{"loss/D": None if step == NAN_STEP else 1.4 - 0.01 * step, "loss/G": 0.7},
        }
        for step in range(1, steps + 1)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    timing = {"kind": "timing", "step": steps, "images_seen": 12 * steps, "seconds": 700.0, "images_per_second": 100.0}
    (run / "timing.jsonl").write_text(json.dumps(timing) + "\n")
    (run / "samples").mkdir()
    for name in ("step-00000001", "step-00000002", "step-00000002-continuous_0"):
        draw(run / "samples" / f"{name}.png", 64)
    (run / "DONE").touch()
    return run


def draw(file: Path, side: int) -> None:
    """A PNG of noise, which no format compresses."""
    noise = np.random.default_rng(side).integers(0, 256, (side, side), dtype=np.uint8)
    Image.fromarray(noise).save(file)


def row_of(run: Path, code_error: float, **others: Any) -> dict[str, Any]:
    """A row of evaluate's JSON."""
    return {
        **{"checkpoint": str(run / "checkpoints" / "step-00000002"), "seed": 1, "step": 2, "images_seen": 24},
        **{"data": "mnist-mini", "images": 400, "split": "test", "fresh_images": 1000, "code_error": code_error},
        "mutual_information": {"categorical_0": 2.125, "continuous_0": -0.25},
        "mutual_information_ceiling": {"categorical_0": 2.302585092994046},
        "usage": {"categorical_0": [0.1] * 10},
        "matching": {"code": "categorical_0", "labels": {"0": 7, "2": 4}, "fitted_on": 100},
        **{"frechet": 12.5, "frechet_floor": 0.25},
        **others,
    }
