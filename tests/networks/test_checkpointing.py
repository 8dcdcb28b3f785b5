from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from infogan_dist.config.schema import Config
from infogan_dist.data.sources import open_images
from infogan_dist.diagnostics.memory import allocated_peak
from infogan_dist.distributed.cluster import Cluster
from infogan_dist.errors import UserError
from infogan_dist.networks import build_networks
from infogan_dist.networks.checkpointing import checkpointed, stages
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

LOWER = [("paper28 recipe", "fp32"), ("paper28 recipe", "bf16"), ("resnet relativistic", "bf16")]


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


@pytest.mark.parametrize(("name", "precision"), [*((name, "fp64") for name in CASES), *LOWER])
def test_training_has_the_same_bits(name: str, precision: str) -> None:
    configs = [
        tiny("x", *CASES[name], f"train.precision={precision}", f"train.gradient_checkpointing={on}")
        for on in ("false", "true")
    ]
    kept, repeated = map(trained, configs)
    assert kept.keys() == repeated.keys()
    for key, value in kept.items():
        assert torch.equal(value, repeated[key]), key


def test_stages_begin_at_layers_with_a_matrix_or_kernel() -> None:
    G, FE = build_networks(tiny("x")).G, build_networks(tiny("x")).FE
    names = {id(layer): name for name, layer in [*G.named_children(), *FE.named_children()]}
    first = [names[id(layers[0])] for network in (G, FE) for layers in stages(network)]
    assert first == ["flatten", "spread", "up", "to_image", "from_image", "down", "gather"]
    assert [layer for layers in stages(G) for layer in layers] == [*G.children()]
    network = nn.Bilinear(2, 2, 1)
    assert stages(network) == [[network]]


def test_a_stage_keeps_less_and_runs_again_in_the_backward_pass() -> None:
    runs: list[int] = []
    network = nn.Sequential(*(layer for _ in range(4) for layer in (nn.Linear(64, 64), nn.Sigmoid(), nn.Tanh())))
    network[0].register_forward_hook(lambda *_: runs.append(1))
    x = torch.randn(1000, 64)
    kept = allocated_peak(lambda: network(x).sum().backward(), torch.device("cpu"))
    assert len(runs) == 1
    less = allocated_peak(lambda: checkpointed(network, x).sum().backward(), torch.device("cpu"))
    assert len(runs) == 3
    assert kept - less >= 3 * 1000 * 64 * 4, "at least three of twelve maps"
    with torch.no_grad():
        checkpointed(network, x)
    assert len(runs) == 4


def test_a_layer_that_changes_its_input_is_refused() -> None:
    network = nn.Sequential(nn.LeakyReLU(inplace=True), nn.Linear(3, 3))
    with pytest.raises(UserError, match=r"one of LeakyReLU, Linear changes it in place; remove inplace=True"):
        checkpointed(network, torch.randn(2, 3))


def test_combinations_that_are_not_tested_are_refused() -> None:
    for key in ("compile=default", "cuda_graph=true"):
        with pytest.raises(
            UserError, match=r"gradient_checkpointing = true is not tested with train\.\w+ = .*; set one"
        ):
            tiny("x", "train.gradient_checkpointing=true", f"train.{key}")
