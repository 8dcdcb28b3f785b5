"""A state_dict of the generator of pianomania/infoGAN-pytorch, which saves none itself: `torch.save(G.state_dict(), FILE)`."""

from __future__ import annotations

from pathlib import Path

from infogan_dist.config.schema import Config
from infogan_dist.export.importers.imported import Imported
from infogan_dist.export.importers.paper28 import FE_LEFT_OUT, paper28_config, paper28_generator
from infogan_dist.export.importers.pickled import read_pickled, tensors_in
from infogan_dist.sampling.pretrained import Pretrained

LAYERS = {
    **{"lift": "main.0", "spread": "main.3", "up": "main.6", "to_image": "main.9"},
    **{"lift_norm": "main.1", "spread_norm": "main.4", "up_norm": "main.7"},
}


def read(path: Path, config: Config | None) -> Imported:
    """G, whose noise is U(-1, 1). Raises UserError where the file is something else."""
    G = paper28_generator(tensors_in(read_pickled(path), path), LAYERS, str(path))
    return Imported(Pretrained(paper28_config("mnist", "uniform"), {"G": G}), FE_LEFT_OUT)
