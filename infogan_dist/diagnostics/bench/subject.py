"""What is measured: a game from the seed and the steps that train it, as the loop takes them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from infogan_dist.config.schema import Config
from infogan_dist.data.sources import ImageSource
from infogan_dist.distributed.cluster import Cluster
from infogan_dist.training.batches import BatchStream, images_before
from infogan_dist.training.ema import update_average
from infogan_dist.training.loop import build_game, stepper
from infogan_dist.training.schedule import annealing
from infogan_dist.training.step import MicroBatch, set_rates, train_step


class Subject:
    """A game at its start, ready for its first step. Every rank makes one and takes the same steps."""

    def __init__(self, config: Config, cluster: Cluster, source: ImageSource):
        self.config, self.cluster = config, cluster
        self.game = build_game(config, cluster)
        self.steps_taken = 0
        self._batches, self._train_step = BatchStream(config, cluster, source), stepper(config, cluster, self.game)
        cluster.settle(self.game.networks.named().values(), lambda: train_step(self.game, self._batches.at(1)))

    def step(self) -> dict[str, Tensor]:
        """One whole training step, as this run takes it: data, latents, both updates and the average. Its metrics."""
        batch = self.next_batch()
        metrics = self._train_step(batch)
        self.average(metrics)
        return metrics

    def plain_step(self) -> None:
        """The same without a recorded graph of it: each of its operations is called, and can be counted."""
        self.average(train_step(self.game, self.next_batch()))

    def next_batch(self) -> Sequence[MicroBatch]:
        self.steps_taken += 1
        set_rates(self.game, annealing(self.config.schedule, images_before(self.config, self.steps_taken)))
        return self._batches.at(self.steps_taken)

    def average(self, metrics: dict[str, Tensor]) -> None:
        update_average(self.game.networks, self.config.train, self.steps_taken, metrics["gradient/G"])
