from __future__ import annotations

import pytest
import torch
from torch import Tensor

from infogan_dist.config.schema import Config
from infogan_dist.data.sources import open_images
from infogan_dist.distributed.cluster import Cluster
from infogan_dist.training.batches import BatchStream
from infogan_dist.training.step import train_step
from infogan_dist.training.train_state import build_train_state
from tests.conftest import ONE_PROCESS, tiny

RECIPE = "objective={information_trains: trunk, information_from: augmented, lambda_clustering: 1, clustering_from: 0}"
RESNET = ["networks={family: resnet, width: 4, norm_G: none, norm_D: none}", "data.image_size=32"]
CASES = {
    "paper28 recipe": [RECIPE],
    "paper28 spectral": ["networks={width: 4, norm_D: spectral}"],
    "paper28 penalties": ["objective={r1_gamma: 1, r2_gamma: 1}"],
    "paper28 spectral penalty": ["networks={width: 4, norm_D: spectral}", "objective.r1_gamma=1"],
    "dcgan accumulate": ["networks={family: dcgan, width: 4}", "data.image_size=32", "train.accumulate=2"],
    "paper32": ["networks={family: paper32, width: 4}", "data.image_size=32"],
    "resnet relativistic": [*RESNET, "objective={adversarial: relativistic, r1_gamma: 1, r2_gamma: 1}"],
}


def trained(config: Config, steps: int = 2) -> dict[str, Tensor]:
    """The metrics of every step and the tensors of the checkpoint after the last."""
    with Cluster(ONE_PROCESS, 1, config.processes) as cluster:
        cluster.configure(config)
        state, batches = build_train_state(config, cluster), BatchStream(config, cluster, open_images(config.data))
        found = {}
        for step in range(1, steps + 1):
            found |= {f"{step} {key}": value for key, value in train_step(state, batches.at(step)).items()}
        named = state.state_dict().items()
        return found | {f"{stem}/{key}": value for stem, tensors in named for key, value in tensors.items()}


@pytest.mark.parametrize("precision", ["fp32", "fp64", "bf16"])
@pytest.mark.parametrize("name", CASES)
def test_training_has_the_same_bits(name: str, precision: str) -> None:
    configs = [
        tiny("x", *CASES[name], f"train.precision={precision}", f"train.gradient_checkpointing={on}")
        for on in ("false", "true")
    ]
    kept, repeated = map(trained, configs)
    assert kept.keys() == repeated.keys()
    for key, value in kept.items():
        assert torch.equal(value, repeated[key]), key
