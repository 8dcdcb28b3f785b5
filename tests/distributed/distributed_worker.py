"""One rank of tests/distributed/test_equality.py: trains every combination in one process group and writes the results to a folder.

Started as `python -m tests.distributed.distributed_worker OUT STEPS COMBINATION ...`, as one process or under torchrun.
"""

from __future__ import annotations

import copy
import itertools
import json
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from infogan_dist.config.running import ProcessesConfig
from infogan_dist.config.schema import Config
from infogan_dist.data.sources import open_images
from infogan_dist.distributed.cluster import Cluster
from infogan_dist.distributed.group import Group
from infogan_dist.distributed.launcher import Launch
from infogan_dist.errors import InfoganError, UserError
from infogan_dist.networks.class_prior import class_priors
from infogan_dist.training import clustering_start
from infogan_dist.training.adaptive import adjust
from infogan_dist.training.batches import BatchStream
from infogan_dist.training.ema import update_average
from infogan_dist.training.engine import WrappedEngine
from infogan_dist.training.step import discriminator_step, generator_step, train_step
from infogan_dist.training.train_state import TrainState, build_train_state
from tests.conftest import tiny

RESUMED = 5  # number of last steps that are trained again, from a copy of the state before them
NORMS = {
    "none": "norm_G: none, norm_D: none",
    "batch": "norm_G: batch, norm_D: batch",
    "spectral": "norm_G: batch, norm_D: spectral",
}
PENALTIES = {"plain": "r1_gamma: 0, r2_gamma: 0", "penalties": "r1_gamma: 1, r2_gamma: 0.5"}
MATRIX = {
    f"{norm} {learner} {penalty} accumulate-{accumulate}": [
        f"networks={{width: 4, {NORMS[norm]}}}",
        f"objective={{information_trains: {learner}, {PENALTIES[penalty]}}}",
        f"train.accumulate={accumulate}",
    ]
    for norm, learner, penalty, accumulate in itertools.product(NORMS, ("heads", "trunk"), PENALTIES, (1, 4))
}
OTHER_FAMILIES = {
    "dcgan batch heads": ["networks={family: dcgan, width: 4, norm_Q: batch}", "data.image_size=32"],
    "none resnet": [
        "networks={family: resnet, width: 4, norm_G: none, norm_D: none}",
        "objective={adversarial: relativistic, r1_gamma: 1, r2_gamma: 1}",
        "data.image_size=32",
    ],
}
CLUSTERING = "lambda_clustering: 1, clustering_from: 0, clustering_in_full: 0.5, clustering_entropy_weight: 1.5"
VIEWS = f"information_trains: trunk, information_from: augmented, {CLUSTERING}"
RECIPES = {  # the relativistic one has gradient penalties, as recommended
    "recipe": [f"objective={{{VIEWS}}}", "latents.balanced=true"],
    "recipe after L_I": [  # decided after step 6 of 48 images, starts in step 9
        f"objective={{{VIEWS.replace('clustering_from: 0, clustering_in_full: 0.5', 'clustering_from: 0.9, clustering_in_full: 1')},"
        " clustering_after: 0.001}",
        "schedule.images=300",
        "optimizer.Q.lr=5e-3",
    ],
    "recipe accumulate-4": [f"objective={{{VIEWS}}}", "augmentation.paste=0", "train.accumulate=4"],
    "relativistic": [
        f"objective={{{VIEWS}, adversarial: relativistic, r1_gamma: 1, r2_gamma: 1}}",
        "schedule={kind: cosine, anneal_from: 0, penalty_final: 0.1, beta2_final: 0.9}",
    ],
}
LOSSES = {  # each of the other adversarial losses once, with every value of the other dimensions
    "hinge spectral trunk": [
        f"networks={{width: 4, {NORMS['spectral']}}}",
        "objective={information_trains: trunk, adversarial: hinge}",
    ],
    "least-squares batch heads smoothed accumulate-4": [
        f"networks={{width: 4, {NORMS['batch']}}}",
        "objective={information_trains: heads, adversarial: least-squares, label_smoothing: 0.1}",
        "train.accumulate=4",
    ],
    "wasserstein trunk penalty": [
        "networks={width: 4, norm_G: batch, norm_D: none}",
        "objective={information_trains: trunk, adversarial: wasserstein, lambda_gradient_penalty: 10}",
    ],
}
PRIORS = {
    "learned prior": [
        "objective.information_trains=trunk",
        "latents={noise: [{dim: 3}], categorical: [5, 2], balanced: true, prior: learned, prior_from: 0, prior_half_life_images: 50}",
        "train.accumulate=2",
    ]
}
PERTURBED = "diff_augment: [colour, translation, cutout], instance_noise: 0.2, instance_noise_until: 1"
ADAPTIVE = f"{PERTURBED}, diff_augment_target: 0.1, diff_augment_images: 500"
OPTIONS_OF_D = {  # the first has all of them
    "pack minibatch-std adaptive trunk": [
        f"networks={{width: 4, {NORMS['batch']}, pack: 2, minibatch_std: 4}}",
        f"objective={{information_trains: trunk, {ADAPTIVE}}}",
        "optimizer.D.lr=2e-3",  # the probability rises and falls
    ],
    "minibatch-std batch trunk": [
        f"networks={{width: 4, {NORMS['batch']}, minibatch_std: 4}}",
        "objective={information_trains: trunk, r1_gamma: 1}",
    ],
    # with a faster D its training is chaotic: on one process a change of 1e-15 in one weight grows above 1 within 50 steps
    "adaptive batch heads": [f"objective={{{ADAPTIVE}}}"],
    "pack spectral trunk": [
        f"networks={{width: 4, {NORMS['spectral']}, pack: 2}}",
        "objective={information_trains: trunk, adversarial: relativistic, r1_gamma: 1, lambda_gradient_penalty: 10}",
    ],
    "perturbed relativistic trunk accumulate-4": [
        f"objective={{{VIEWS}, {PERTURBED}, adversarial: relativistic}}",
        "augmentation.paste=0",
        "train.accumulate=4",
    ],
}
CHECKPOINTED = ("recipe", "hinge spectral trunk")  # also trained with gradient checkpointing
COMBINATIONS = MATRIX | OTHER_FAMILIES | RECIPES | LOSSES | PRIORS | OPTIONS_OF_D


def config_of(name: str, *overrides: str) -> Config:
    """48 images per step: divisible by 1, 2, 3 and 4 processes with 1 and 4 micro-batches."""
    return tiny("x", "train.global_batch=48", *COMBINATIONS[name], *overrides)


def ready(config: Config, cluster: Cluster) -> tuple[TrainState, BatchStream]:
    """As `training.train` builds them, before the first step."""
    cluster.configure(config)
    state = build_train_state(config, cluster)
    priors, start = class_priors(state.networks.G), state.clustering_start
    batches = BatchStream(config, cluster, open_images(config.data), priors, start)
    cluster.warm_up_ddp(state.networks.named().values(), lambda: train_step(state, batches.at(1)))
    return state, batches


def train(state: TrainState, batches: BatchStream, config: Config, steps: range, cluster: Cluster) -> None:
    for step in steps:
        metrics = train_step(state, batches.at(step))
        update_average(state.networks, config.train, step, metrics["gradient/G"])
        if state.augment_probability is not None:
            adjust(state.augment_probability, metrics, config, cluster)
        if state.clustering_start is not None:
            state.clustering_start.observe(step, metrics)


class LocalEngine(WrappedEngine):
    """Leaves the gradients of this process unreduced."""

    def gradients_of(self, module: nn.Module, last: bool) -> AbstractContextManager[None]:
        return super().gradients_of(module, last=False)


def first_gradients(config: Config, cluster: Cluster, reduced: bool = True) -> dict[str, torch.Tensor]:
    """The gradients of the first step. Later ones differ more, because Adam amplifies rounding of tiny gradients."""
    found = {}
    for step in (discriminator_step, generator_step):
        state, batches = ready(config, cluster)
        step(state if reduced else replace(state, engine=LocalEngine(state.engine)), batches.at(1))
        for name, network in state.networks.named().items():
            for key, parameter in network.named_parameters():
                if parameter.grad is not None:
                    found[f"{step.__name__}/{name}/{key}"] = parameter.grad.clone().contiguous()
    return found


def flat(state: TrainState) -> dict[str, torch.Tensor]:
    """Every tensor of a checkpoint, in one mapping."""
    state = state.state_dict()
    return {f"{stem}/{name}": t.clone().contiguous() for stem, tensors in state.items() for name, t in tensors.items()}


def learn(name: str, steps: int, cluster: Cluster, base: str) -> None:
    """Train one combination and write its state, its traffic and whether a resumed run ends with the same bits."""
    config = config_of(name)
    state, batches = ready(config, cluster)
    last = range(steps - RESUMED + 1, steps + 1)
    train(state, batches, config, range(1, last.start), cluster)
    before = {stem: {key: t.clone() for key, t in tensors.items()} for stem, tensors in state.state_dict().items()}
    train(state, batches, config, last, cluster)
    final, traffic = flat(state), cluster.traffic
    owned = state.owned_by_D, state.owned_by_G
    sizes = [sum(p.numel() for n in networks.values() for p in n.parameters()) for networks in owned]
    facts = {
        "owned": dict(zip(("DiscriminatorModule", "GeneratorModule"), sizes, strict=True)),
        "elements": dict(traffic.elements),
        "calls": dict(traffic.calls),
    }
    resumed, batches = ready(config, cluster)
    resumed.load_state_dict(copy.deepcopy(before))  # Adam keeps the tensors of its step counts
    train(resumed, batches, config, last, cluster)
    facts["resumes bitwise"] = all(torch.equal(tensor, final[key]) for key, tensor in flat(resumed).items())
    if name in CHECKPOINTED:
        repeated, batches = ready(config_of(name, "train.gradient_checkpointing=true"), cluster)
        repeated.load_state_dict(before)
        train(repeated, batches, config, last, cluster)
        facts["checkpoints bitwise"] = all(torch.equal(t, final[key]) for key, t in flat(repeated).items())
    Path(f"{base}.json").write_text(json.dumps(facts))
    save_file(final, f"{base}.safetensors")
    for precision in ("fp32", "bf16"):
        gradients = first_gradients(config_of(name, f"train.precision={precision}"), cluster)
        save_file(gradients, f"{base}-{precision}.safetensors")
    compressed = config_of(name, "train.precision=fp32", "processes.compress_gradients=bf16")
    for ending, reduced in {"compressed": True, "local": False}.items():
        save_file(first_gradients(compressed, cluster, reduced), f"{base}-{ending}.safetensors")


def agree(cluster: Cluster) -> str:
    """The error if the last rank differs in the last bit of one weight, after checking that equal ranks raise none."""
    config = config_of("batch heads plain accumulate-1")
    state, _ = ready(config, cluster)
    cluster.check_agreement(flat(state))
    if cluster.rank == cluster.processes - 1:
        with torch.no_grad():
            weight = state.networks.FE.down.weight
            weight.view(-1)[7] = torch.nextafter(weight.view(-1)[7], weight.new_tensor(9.0))
    return message_of(lambda: cluster.check_agreement(flat(state)))


def main(out: Path, steps: int, names: list[str]) -> None:
    clustering_start.CHECK_EVERY = 2  # so that clustering starts within the few steps
    cluster = Cluster(Launch.from_environment(os.environ), 1, ProcessesConfig())
    for name in names:
        learn(name, steps, cluster, str(out / f"{name.replace(' ', '-')}-rank{cluster.rank}"))
    (out / f"disagreement-rank{cluster.rank}").write_text(agree(cluster))
    drawn = cluster.map_batches(list(torch.arange(30).split(6)), lambda indexes: indexes[:, None] * 10)
    assert drawn.flatten().tolist() == [10 * index for index in range(30)]
    assert cluster.any(cluster.rank == cluster.processes - 1)
    assert not cluster.any(False)
    assert cluster.mean({"rank": torch.tensor(float(cluster.rank))}) == {"rank": (cluster.processes - 1) / 2}
    assert cluster.on_main(lambda: cluster.rank) == 0
    assert message_of(lambda: cluster.on_all(lambda: refuse_on(cluster, cluster.processes - 1))).startswith("no data")
    cluster.check_same({"seed": 1, "output": 2})
    if cluster.processes > 1:
        differs = message_of(lambda: cluster.check_same({"train.steps": 1, "seed": cluster.rank}))
        assert differs.startswith("seed is 1 on rank 1 of")
        assert " but 0 on rank 0 of" in differs
    cluster.close()
    for _ in range(2):  # the ranks would hang if a later group used the addresses of the first
        with Group(Launch.from_environment(os.environ), 1, ProcessesConfig(timeout=60)) as group:
            assert group.any(group.rank == group.processes - 1)
            assert group.on_main(lambda: 3) == 3


def refuse_on(cluster: Cluster, rank: int) -> None:
    if cluster.rank == rank:
        raise UserError("no data")


def message_of(action: Callable[[], object]) -> str:
    try:
        action()
    except InfoganError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
