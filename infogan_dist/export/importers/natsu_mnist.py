"""Checkpoints of Natsu6767/InfoGAN-PyTorch on MNIST or FashionMNIST: `model_final_MNIST`, `model_epoch_10_MNIST`."""

from __future__ import annotations

from pathlib import Path

from infogan_dist.config.schema import Config
from infogan_dist.errors import UserError
from infogan_dist.export.importers.imported import Imported
from infogan_dist.export.importers.paper28 import FE_LEFT_OUT, paper28_config, paper28_generator
from infogan_dist.export.importers.pickled import mapping_in, read_pickled, tensors_in
from infogan_dist.sampling.pretrained import Pretrained

DATA = {"MNIST": "mnist", "FashionMNIST": "fashion-mnist"}
LAYERS = {
    **{"lift": "tconv1", "spread": "tconv2", "up": "tconv3", "to_image": "tconv4"},
    **{"lift_norm": "bn1", "spread_norm": "bn2", "up_norm": "bn3"},
}


def read(path: Path, config: Config | None) -> Imported:
    """G, whose noise is N(0, 1), from `netG`. Raises UserError where the file is something else."""
    found = read_pickled(path)
    params = found.get("params") if isinstance(found, dict) else None
    data = params.get("dataset", "MNIST") if isinstance(params, dict) else "MNIST"
    if not isinstance(data, str) or data not in DATA:
        raise UserError(f"{path} was trained on {str(data)[:40]!a}; --from natsu-mnist reads {' and '.join(DATA)}")
    G = paper28_generator(tensors_in(mapping_in(found, "netG", path), path), LAYERS, str(path))
    return Imported(Pretrained(paper28_config(DATA[data], "normal"), {"G": G}), FE_LEFT_OUT)
