"""A trainer that counts its steps."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from infogan_dist.config.schema import Config
from infogan_dist.data.sources import ImageSource
from infogan_dist.distributed.cluster import Cluster
from infogan_dist.training.engine import Engine
from infogan_dist.training.train_state import TrainState
from infogan_dist.training.trainer import Trainer


class BenchTrainer:
    """Takes the steps of a run one after another, from the first. Every rank makes one and takes the same steps."""

    def __init__(self, config: Config, cluster: Cluster, source: ImageSource):
        self.config, self.cluster = config, cluster
        self._trainer = Trainer(config, cluster, source)
        self.state = self._trainer.state
        self._steps_taken = 0
        self._trainer.warm_up_ddp(1)

    def step(self, observe: Callable[[TrainState], Engine] | None = None) -> dict[str, Tensor]:
        """The next step; `observe` as in `Trainer.step`. Returns its metrics."""
        self._steps_taken += 1
        return self._trainer.step(self._steps_taken, observe)

    def plain_step(self) -> dict[str, Tensor]:
        """The next step without a CUDA graph, so that its operations can be counted."""
        return self.step(observe=lambda state: state.engine)
