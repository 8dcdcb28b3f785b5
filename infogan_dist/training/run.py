"""A run in progress: its folder, and the objects that record metrics, draw pictures, save and roll back."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from types import TracebackType
from typing import Any, Self

from infogan_dist.checkpoints.resume import Resume
from infogan_dist.checkpoints.run_folder import RunFolder
from infogan_dist.config.schema import Config
from infogan_dist.data.fingerprint import Fingerprint
from infogan_dist.distributed.cluster import Cluster
from infogan_dist.errors import Diverged
from infogan_dist.training.main_folder import MainFolder
from infogan_dist.training.pictures import Pictures
from infogan_dist.training.records import Records
from infogan_dist.training.rollback import Rollback
from infogan_dist.training.saving import Saving, initialise, restore
from infogan_dist.training.trainer import Trainer


class Run:
    """Opens the run folder, and loads the checkpoint that `start` names, if any, into the trainer. Every rank makes one.

    As a context manager it writes a marker file of how the run ended. Raises UserError if the folder is in use or cannot be written.
    """

    def __init__(
        self,
        config: Config,
        cluster: Cluster,
        trainer: Trainer,
        start: Resume,
        images: Fingerprint | None = None,
        debug: bool = False,
    ):
        checkpoint = start.checkpoint
        self._config, self._cluster = config, cluster
        self._start = checkpoint.step if checkpoint else 0
        self.first_step = self._start + 1
        state = trainer.state
        skipped: dict[str, int] = {}
        origins: dict[str, Any] = {"resumed_from": list(start.resumed_from)}
        if checkpoint is not None:
            restore(checkpoint, state, cluster)
            skipped = checkpoint.skipped_updates
            origins |= {key: checkpoint.manifest[key] for key in ("initialised_from",) if key in checkpoint.manifest}
        elif start.initial is not None:
            initialise(state, start.initial, cluster)
            origins["initialised_from"] = start.initial.origin
        self._folder = MainFolder(config, cluster, checkpoint, debug)
        try:
            restore_into = partial(restore, state=state, cluster=cluster)
            self.rollback = Rollback(config, cluster, self._folder, skipped, restore_into, trainer.batches.images_of)
            self.records = Records(config, cluster, self._folder, state, self.first_step)
            self.pictures = Pictures(config, cluster, self._folder, state, self.records)
            self.saving = Saving(config, cluster, self._folder, state, self.rollback, images, origins)
        except BaseException as error:
            self._folder.close(type(error), error, error.__traceback__)
            raise

    def __enter__(self) -> Self:
        train, cluster = self._config.train, self._cluster
        share = train.global_batch // cluster.processes
        processes = f"{cluster.processes} process{'es' if cluster.processes > 1 else ''} of {share} images"
        start = f"continuing after step {self._start}" if self._start else "from the start"
        cluster.announce(
            f"training {self._config.output} {start}: {processes} a step, {cluster.device.type}, {train.precision}"
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Diverged):
            self._folder.here(partial(self.rollback.write_post_mortem, error=error))
        try:
            self._folder.close(kind, error, trace)
        finally:
            self.records.close(error)
        if kind is None:
            self._cluster.announce(*(f"{what}: {path}" for what, path in self._folder.written.items()))

    def mark_stopping(self) -> None:
        """Make other commands in this folder wait for the end of this run. A signal handler may call it."""
        self._folder.here(RunFolder.mark_stopping)

    def remaining_steps(self) -> Iterator[int]:
        """The steps still to train, counted from 1."""
        for step in range(self.first_step, self._config.train.steps + 1):
            yield step
            self.records.progress.advance()

    def due(self, every: int, step: int) -> bool:
        """Whether an action with period `every` (0: never) is due after `step`. After the last step all are."""
        return step == self._config.train.steps or (every > 0 and step % every == 0)
