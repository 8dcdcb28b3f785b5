"""Takes the steps of a run. The loop, `bench`, `--debug` and `--profile` train by it, so that each takes the same step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor

from infogan_dist.config.schema import Config
from infogan_dist.data.sources import ImageSource
from infogan_dist.distributed.cluster import Cluster
from infogan_dist.errors import UserError
from infogan_dist.training.batches import BatchStream, images_before
from infogan_dist.training.cuda_graph import GraphedStep
from infogan_dist.training.ema import update_average
from infogan_dist.training.optimizers import set_rates
from infogan_dist.training.schedule import annealing
from infogan_dist.training.step import MicroBatch, train_step
from infogan_dist.training.train_state import TrainState, build_train_state

Update = Callable[[Sequence[MicroBatch]], dict[str, Tensor]]


class Trainer:
    """The networks of a run with their initial weights, and the steps that train them. Every rank makes one and takes the same steps.

    Raises UserError where the config asks for a CUDA graph and none can be recorded.
    """

    def __init__(self, config: Config, cluster: Cluster, source: ImageSource):
        self.config, self.cluster = config, cluster
        self.state = build_train_state(config, cluster)
        self.batches = BatchStream(config, cluster, source)
        self._update = update_of(config, cluster, self.state)
        self.batch: Sequence[MicroBatch] = ()
        """The micro-batches of the newest step."""

    def step(self, number: int) -> dict[str, Tensor]:
        """Step `number`, counted from 1: rates, batch, both updates, EMA. Returns its metrics, on the device."""
        return self.average(number, self._update(self.begin(number)))

    def plain_step(self, number: int) -> dict[str, Tensor]:
        """The same without a CUDA graph: each operation is called, and can be counted."""
        return self.average(number, train_step(self.state, self.begin(number)))

    def begin(self, number: int) -> Sequence[MicroBatch]:
        """Set the learning rates of step `number`. Returns its micro-batches."""
        share = annealing(self.config.schedule, images_before(self.config, number))
        set_rates((self.state.optimizer_D, self.state.optimizer_G), share)
        self.batch = self.batches.at(number)
        return self.batch

    def average(self, number: int, metrics: dict[str, Tensor]) -> dict[str, Tensor]:
        """Update G's average after both updates of step `number`. Returns their metrics."""
        update_average(self.state.networks, self.config.train, number, metrics["gradient/G"])
        return metrics

    def warm_up_ddp(self, number: int) -> None:
        """Compute step `number` once without effect, before the first step of this process."""
        networks = self.state.networks.named().values()
        self.cluster.warm_up_ddp(networks, lambda: train_step(self.state, self.batches.at(number)))


def update_of(config: Config, cluster: Cluster, state: TrainState) -> Update:
    """How this run updates: `train_step`, or a CUDA graph of it. Raises UserError where none can be recorded."""
    if not config.train.cuda_graph:
        return partial(train_step, state)
    if cluster.device.type != "cuda" or cluster.processes > 1:
        raise UserError(
            f"train.cuda_graph = true needs one process on a GPU; here {cluster.processes} on {cluster.device.type}"
        )
    return GraphedStep(state)
