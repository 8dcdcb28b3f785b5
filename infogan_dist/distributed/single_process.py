"""One process without a process group, for commands that a launcher may start on several."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

from infogan_dist.config.running import ProcessesConfig
from infogan_dist.distributed.group import Group
from infogan_dist.distributed.launcher import Launch

Result = TypeVar("Result")


class SingleProcess:
    """The part of Group's interface that drawing uses, on the CPU: nothing is set up, nothing communicates."""

    device = torch.device("cpu")

    def on_main(self, action: Callable[[], Result]) -> Result:
        """What `action` returns or raises."""
        return action()

    def map_batches(self, batches: list[Tensor], draw: Callable[[Tensor], Tensor]) -> Tensor:
        """`draw` of every batch, joined in their order."""
        return torch.cat([draw(batch) for batch in batches])


@contextmanager
def processes_of(launch: Launch) -> Iterator[Group | SingleProcess]:
    """Within, the processes that a launcher started. Every rank calls it. Raises as Group does."""
    if launch.processes == 1:
        yield SingleProcess()
        return
    with Group(launch, "auto", ProcessesConfig()) as group:
        yield group
