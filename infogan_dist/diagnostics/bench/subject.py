"""What is measured: a trainer at its start, and the steps it takes one after another."""

from __future__ import annotations

from torch import Tensor

from infogan_dist.config.schema import Config
from infogan_dist.data.sources import ImageSource
from infogan_dist.distributed.cluster import Cluster
from infogan_dist.training.trainer import Trainer


class Subject:
    """A trainer that counts its steps. Every rank makes one and takes the same steps."""

    def __init__(self, config: Config, cluster: Cluster, source: ImageSource):
        self.config, self.cluster = config, cluster
        self.trainer = Trainer(config, cluster, source)
        self.steps_taken = 0
        self.trainer.warm_up_ddp(1)

    def step(self) -> dict[str, Tensor]:
        """The next training step, as a run takes it. Its metrics."""
        return self.trainer.step(self.next_number())

    def plain_step(self) -> None:
        """The same without a CUDA graph: each operation is called, and can be counted."""
        self.trainer.plain_step(self.next_number())

    def next_number(self) -> int:
        """The number of the next step, which is taken to be done."""
        self.steps_taken += 1
        return self.steps_taken
