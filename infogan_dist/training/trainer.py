"""Runs the training steps of the loop, `bench`, `doctor`, `--debug` and `--profile`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from torch import Tensor

from infogan_dist.config.schema import Config
from infogan_dist.data.host_memory import release_freed_memory
from infogan_dist.data.sources import ImageSource
from infogan_dist.distributed.cluster import Cluster
from infogan_dist.errors import UserError
from infogan_dist.networks.class_prior import class_priors
from infogan_dist.training.adaptive import adjust
from infogan_dist.training.batches import BatchStream, images_before
from infogan_dist.training.cuda_graph import GraphedStep
from infogan_dist.training.ema import update_average
from infogan_dist.training.engine import Engine
from infogan_dist.training.optimizers import set_beta2, set_rates
from infogan_dist.training.schedule import beta2, learning_rate_share
from infogan_dist.training.step import MicroBatch, train_step
from infogan_dist.training.train_state import TrainState, build_train_state

Update = Callable[[Sequence[MicroBatch]], dict[str, Tensor]]


class Trainer:
    """Builds the networks of a run and runs its training steps. Every rank makes one and runs the same steps.

    Raises UserError if the config asks for a CUDA graph that cannot be recorded.
    """

    def __init__(self, config: Config, cluster: Cluster, source: ImageSource):
        self.config, self.cluster = config, cluster
        self.state = build_train_state(config, cluster)
        priors, clustering_start = class_priors(self.state.networks.G), self.state.clustering_start
        self.batches = BatchStream(config, cluster, source, priors, clustering_start)
        self._update = update_of(config, cluster, self.state)
        self.batch: Sequence[MicroBatch] = ()
        """The micro-batches of the newest step."""
        release_freed_memory()  # of initial weights and of images read

    def step(self, number: int, observe: Callable[[TrainState], Engine] | None = None) -> dict[str, Tensor]:
        """Run step `number`, counted from 1: learning rates, batch, both updates, EMA. Returns metrics on the device.

        `observe` maps the state to another engine that runs the step, without a CUDA graph.
        """
        images_seen = images_before(self.config, number)
        set_rates((self.state.optimizer_D, self.state.optimizer_G), learning_rate_share(self.config, images_seen))
        set_beta2(self.state.optimizer_D, beta2(self.config, self.config.optimizer.D.beta2, images_seen))
        set_beta2(self.state.optimizer_G, beta2(self.config, self.config.optimizer.G.beta2, images_seen))
        self.batch = self.batches.at(number)
        update = self._update
        if observe is not None:
            update = partial(train_step, replace(self.state, engine=observe(self.state)))
        metrics = update(self.batch)
        update_average(self.state.networks, self.config.train, number, metrics["gradient/G"])
        if self.state.augment_probability is not None:
            metrics = metrics | adjust(self.state.augment_probability, metrics, self.config, self.cluster)
        if self.state.clustering_start is not None:
            metrics = metrics | self.state.clustering_start.observe(number, metrics)
        return metrics

    def warm_up_ddp(self, number: int) -> None:
        """Run step `number` once and undo it, before the first step of this process."""
        networks = self.state.networks.named().values()
        self.cluster.warm_up_ddp(networks, lambda: train_step(self.state, self.batches.at(number)))


def update_of(config: Config, cluster: Cluster, state: TrainState) -> Update:
    """`train_step`, or a CUDA graph of it. Raises UserError if the graph cannot be recorded."""
    check_cuda_graph(config, cluster)
    return GraphedStep(state) if config.train.cuda_graph else partial(train_step, state)


def check_cuda_graph(config: Config, cluster: Cluster) -> None:
    """Raises UserError if the config asks for a CUDA graph that cannot be recorded."""
    if config.train.cuda_graph and (cluster.device.type != "cuda" or cluster.processes > 1):
        raise UserError(
            f"train.cuda_graph = true needs one process on a GPU; here {cluster.processes} on {cluster.device.type}"
        )
