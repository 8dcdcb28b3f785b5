"""One rank of tests/test_distributed.py: trains every combination in one process group and leaves what it got in a folder.

Started as `python -m tests.distributed_worker OUT [COMBINATION ...]`, alone or under torchrun.
"""  # no `from __future__ import annotations`: DDP reads the annotations of the hook below

import json
import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.distributed import GradBucket
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from infogan_dist.checkpoints import optimizer_tensors
from infogan_dist.config import Config
from infogan_dist.data import open_images
from infogan_dist.distributed import Cluster
from infogan_dist.ema import update_average
from infogan_dist.launcher import Launch
from infogan_dist.sides import owned_networks
from infogan_dist.steps import Game, discriminator_step, generator_step
from infogan_dist.training import BatchStream, build_game
from tests.conftest import tiny

STEPS = 20
COMBINATIONS = {
    "paper28 none heads": ["networks={width: 4, norm_G: none, norm_D: none}"],
    "paper28 batch heads": [],
    "paper28 none trunk": ["networks={width: 4, norm_G: none, norm_D: none}", "objective.information_trains=trunk"],
    "paper28 batch trunk": ["objective.information_trains=trunk"],
    "paper28 batch heads accumulate": ["train.accumulate=2"],
    "dcgan batch heads": ["networks={family: dcgan, width: 4}", "data.image_size=32"],
}


def count_reduced(side: nn.Module) -> list[int]:
    """The list grows by the number of gradient elements in each reduction of `side`."""
    counts: list[int] = []
    if isinstance(side, DistributedDataParallel):

        def hook(group: object, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
            counts.append(bucket.buffer().numel())
            return allreduce_hook(None, bucket)  # type: ignore[arg-type]

        side.register_comm_hook(None, hook)
    return counts


def first_gradients(config: Config, cluster: Cluster) -> dict[str, torch.Tensor]:
    """The reduced gradients of each step taken first: after an update, Adam's sign of a tiny gradient amplifies rounding."""
    cluster.configure(config)
    found = {}
    for step in (discriminator_step, generator_step):
        game, batches = build_game(config, cluster), BatchStream(config, cluster, open_images(config.data))
        step(game, batches.at(1))
        found |= {f"{step.__name__}/{name}": gradient for name, gradient in gradients(game).items()}
    return found


def gradients(game: Game) -> dict[str, torch.Tensor]:
    named = {f"{name}.{key}": p for name, n in game.networks.named().items() for key, p in n.named_parameters()}
    return {name: p.grad.clone().contiguous() for name, p in named.items() if p.grad is not None}


def train(config: Config, cluster: Cluster) -> tuple[Game, dict[str, list[int]]]:
    cluster.configure(config)
    game, batches = build_game(config, cluster), BatchStream(config, cluster, open_images(config.data))
    counts = {"D": count_reduced(game.discriminator_side), "G": count_reduced(game.generator_side)}
    for step in range(1, STEPS + 1):
        batch = batches.at(step)
        discriminator_step(game, batch)
        generator_step(game, batch)
        update_average(game.networks, config.train, step)
    return game, counts


def main(out: Path, names: list[str]) -> None:
    cluster = Cluster(Launch.from_environment(os.environ), threads=1)
    for name in names or COMBINATIONS:
        base = out / f"{name.replace(' ', '-')}-rank{cluster.rank}"
        config = tiny("x", *COMBINATIONS[name])
        game, counts = train(config, cluster)
        owned = owned_networks(game.networks, game.objective)
        state = {f"{n}.{k}": v for n, network in game.networks.named().items() for k, v in network.state_dict().items()}
        state |= optimizer_tensors(game.optimizer_D, owned[0]) | optimizer_tensors(game.optimizer_G, owned[1])
        save_file({key: value.contiguous() for key, value in state.items()}, f"{base}.safetensors")
        sizes = [sum(p.numel() for n in networks.values() for p in n.parameters()) for networks in owned]
        Path(f"{base}.json").write_text(json.dumps({"reduced": counts, "owned": dict(zip("DG", sizes, strict=True))}))
        single = tiny("x", *COMBINATIONS[name], "train.precision=fp32")
        save_file(first_gradients(single, cluster), f"{base}-fp32.safetensors")
    drawn = cluster.map_shares(7, lambda indexes: indexes[:, None] * 10)
    assert drawn.flatten().tolist() == [0, 10, 20, 30, 40, 50, 60]
    assert cluster.any(cluster.rank == cluster.processes - 1)
    assert not cluster.any(False)
    assert cluster.mean({"rank": torch.tensor(float(cluster.rank))}) == {"rank": (cluster.processes - 1) / 2}
    assert cluster.on_main(lambda: cluster.rank) == 0
    cluster.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
