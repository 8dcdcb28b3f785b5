"""The run folder, which rank zero opens for all ranks."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from infogan_dist.checkpoints.run_folder import RunFolder
from infogan_dist.checkpoints.store import Checkpoint
from infogan_dist.config.schema import Config
from infogan_dist.distributed.cluster import Cluster

Result = TypeVar("Result")


class MainFolder:
    """Opens the folder on rank zero. Every rank makes one and calls `do`.

    `written` has the newest file of each kind, which are printed at the end of a run. Raises UserError if the folder is in use or
    cannot be written.
    """

    def __init__(self, config: Config, cluster: Cluster, checkpoint: Checkpoint | None, debug: bool = False):
        self._cluster = cluster
        self._folder: RunFolder | None = None
        self.written: dict[str, str] = {}

        def open_folder() -> None:
            self._folder = RunFolder(config, checkpoint, debug)
            cluster.on_hang(self._folder.mark_failed)

        cluster.on_main(open_folder)

    def do(self, write: Callable[[RunFolder], Result]) -> Result:
        """Run `write` on rank zero. Every rank returns or raises its result. Raises CannotWrite if a write fails."""

        def guarded() -> Result:
            assert self._folder is not None
            with self._folder.writing():
                return write(self._folder)

        return self._cluster.on_main(guarded)

    def here(self, act: Callable[[RunFolder], object]) -> None:
        """Call `act` on rank zero only, without synchronising the ranks. A signal handler may use it."""
        if self._folder is not None:
            act(self._folder)

    def close(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Write the marker file of how the run ended and release the folder."""
        self.here(lambda folder: folder.__exit__(kind, error, trace))
