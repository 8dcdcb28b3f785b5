"""The state that training changes: networks and optimizers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from infogan_dist.checkpoints.manifest import State
from infogan_dist.checkpoints.state import (
    check_match,
    network_tensors,
    optimizer_tensors,
    restore_networks,
    restore_optimizer,
)
from infogan_dist.config.model import OptimizerConfig
from infogan_dist.config.objective import ObjectiveConfig
from infogan_dist.config.schema import Config
from infogan_dist.distributed.cluster import Cluster
from infogan_dist.latents import LatentSpec
from infogan_dist.networks import Networks, build_networks, compile_networks
from infogan_dist.networks.class_prior import class_priors
from infogan_dist.training.clustering_start import ClusteringStart
from infogan_dist.training.engine import Engine
from infogan_dist.training.modules import build_modules, owned_networks
from infogan_dist.training.optimizers import build_optimizers

AUGMENTATION, CLUSTERING = "augmentation", "clustering"  # files of a checkpoint


@dataclass(frozen=True)
class TrainState:
    """The networks, the two modules that DDP wraps, the two optimizers, and the engine that prepared them.

    D's optimizer trains the networks `owned_by_D`, G's those `owned_by_G`; Q is in one of the two. `checkpointing` is gradient
    checkpointing of G.
    """

    networks: Networks
    owned_by_D: dict[str, nn.Module]
    owned_by_G: dict[str, nn.Module]
    discriminator_module: nn.Module
    generator_module: nn.Module
    optimizer_D: Optimizer
    optimizer_G: Optimizer
    spec: LatentSpec
    objective: ObjectiveConfig
    optimizer: OptimizerConfig
    engine: Engine
    augment_probability: Tensor | None = None
    """The probability [] of each change of D's input, if it adapts."""
    checkpointing: bool = False
    clustering_start: ClusteringStart | None = None
    """Decides when clustering starts, with `objective.clustering_after`."""

    def state_dict(self) -> State:
        """The tensors of a checkpoint: weights, buffers and Adam's state, by file and name."""
        adaptive, start = self.augment_probability, self.clustering_start
        return network_tensors(self.networks.named()) | {
            "optimizer_D": optimizer_tensors(self.optimizer_D, self.owned_by_D),
            "optimizer_G": optimizer_tensors(self.optimizer_G, self.owned_by_G),
            **({AUGMENTATION: {"probability": adaptive}} if adaptive is not None else {}),
            **({CLUSTERING: start.state_dict()} if start is not None else {}),
        }

    def load_state_dict(self, state: State) -> None:
        """Load the result of `state_dict`. Raises NoUsableCheckpoint if it does not match. A probability that begins to adapt on resume
        starts at 0. Clustering that waits for L_I from a resume on has not started."""
        restore_networks(self.networks.named(), state)
        restore_optimizer(self.optimizer_D, self.owned_by_D, state.get("optimizer_D", {}))
        restore_optimizer(self.optimizer_G, self.owned_by_G, state.get("optimizer_G", {}))
        if self.augment_probability is not None and AUGMENTATION in state:
            check_match(state[AUGMENTATION], {"probability": self.augment_probability}, AUGMENTATION)
            self.augment_probability.copy_(state[AUGMENTATION]["probability"])
        if self.clustering_start is not None and CLUSTERING in state:
            self.clustering_start.load_state_dict(state[CLUSTERING])


def build_train_state(config: Config, cluster: Cluster) -> TrainState:
    """Networks with their initial weights from the seed, their DDP modules and optimizers. Every rank calls it."""
    networks = build_networks(config).to(cluster.device, cluster.dtype)
    compile_networks(networks, config)
    owned_by_D, owned_by_G = owned_networks(networks, config.objective)
    checkpointing = config.train.gradient_checkpointing
    discriminator_module, generator_module = build_modules(networks, owned_by_D, config.objective, checkpointing)
    optimizer_D, optimizer_G = build_optimizers(owned_by_D, owned_by_G, config.optimizer)
    adapts, waits = config.objective.diff_augment_target > 0, config.objective.clustering_after > 0
    spec = LatentSpec.from_config(config.latents)
    return TrainState(
        networks=networks,
        owned_by_D=owned_by_D,
        owned_by_G=owned_by_G,
        discriminator_module=cluster.prepare(discriminator_module),
        generator_module=cluster.prepare(generator_module, *owned_by_D.values()),
        optimizer_D=cluster.prepare_optimizer(optimizer_D),
        optimizer_G=cluster.prepare_optimizer(optimizer_G),
        spec=spec,
        objective=config.objective,
        optimizer=config.optimizer,
        engine=cluster,
        augment_probability=torch.zeros((), device=cluster.device) if adapts else None,
        checkpointing=checkpointing,
        clustering_start=ClusteringStart(config, cluster, spec, class_priors(networks.G)) if waits else None,
    )
