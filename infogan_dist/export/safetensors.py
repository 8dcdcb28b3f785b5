"""One safetensors file of G, and of FE and Q where they are wanted: `Generator` and `Recognizer` read it (sampling/pretrained.py)."""

from __future__ import annotations

from pathlib import Path

import torch

from infogan_dist.export.model import Model
from infogan_dist.sampling import pretrained


def write(model: Model, out: Path, dtype: torch.dtype) -> list[Path]:
    """Write `out`. Raises UserError where a weight is too large for `dtype`."""
    pretrained.save(model.as_tensors(), out, dtype)
    return [out]
