"""Compares G's images of runs on scenes with test images: `python -m tests.bench.scene_images RUN...`.

The features are the 100 hidden units of FE and Q of the config `scenes`, trained with the factors of train images. They are the same for
every run, so that runs with different networks can be compared.
"""

from __future__ import annotations

import json
import sys

import torch
from torch import Tensor, nn

from infogan_dist import Generator
from infogan_dist.config.reading import load_config
from infogan_dist.config.running import ProcessesConfig
from infogan_dist.data.sources import open_images, scaled
from infogan_dist.distributed.group import Group
from infogan_dist.evaluation.labels import known_factors
from infogan_dist.evaluation.metrics.image_metrics import compared_sets
from infogan_dist.evaluation.supervised import trained_with_factors
from infogan_dist.sampling.grids import to_uint8
from tests.conftest import ONE_PROCESS

COUNT = 10_000  # images of each set: as many as `scenes` has test images
BATCH = 500


def feature_network(group: Group) -> nn.Module:
    """Images [B, 3, 64, 64] in [-1, 1] -> features [B, 100]."""
    config = load_config("scenes", [])
    reals = open_images(config.data, "train")
    factors = known_factors(config.data, "train", torch.arange(len(reals)))
    assert factors is not None
    network, _ = trained_with_factors(config, reals, factors.variables, group)
    FE, Q = network.children()
    return nn.Sequential(FE, *list(Q.children())[:-1]).cpu()


@torch.no_grad()
def features_of(network: nn.Module, images: Tensor) -> Tensor:
    """Features of uint8 images, float64 [N, 100]."""
    return torch.cat([network(scaled(batch)) for batch in images.split(BATCH)]).double()


def main(runs: list[str]) -> None:
    data = load_config("scenes", []).data
    with Group(ONE_PROCESS, 1, ProcessesConfig()) as group:
        network = feature_network(group)
    test, train = (
        features_of(network, open_images(data, split).read(torch.arange(COUNT))) for split in ("test", "train")
    )
    for run in runs:
        fakes = features_of(network, to_uint8(Generator.from_pretrained(run).sample(COUNT, seed=0)))
        print(run, json.dumps(compared_sets(fakes, test, train)))


if __name__ == "__main__":
    main(sys.argv[1:])
