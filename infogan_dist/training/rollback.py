"""Counts skipped updates and rolls back to a checkpoint after too many in a row. All ranks make the same decisions."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from infogan_dist.checkpoints.run_folder import RunFolder
from infogan_dist.checkpoints.store import Checkpoint
from infogan_dist.config.running import NonfiniteConfig
from infogan_dist.config.schema import Config
from infogan_dist.distributed.cluster import Cluster
from infogan_dist.errors import Diverged
from infogan_dist.training.main_folder import MainFolder

GRADIENT_NORMS = ("gradient/D", "gradient/G")  # in the metrics of `train_step`
NORMS_KEPT = 100  # newest steps whose gradient norms go into post_mortem.json


@dataclass(frozen=True)
class SkippedStep:
    """A step in which an update was skipped; `updates` is "D", "G" or "DG"."""

    step: int
    updates: str


class SkippedUpdates:
    """Counts skipped updates without waiting for the device at every step. `saved` is the `state` of a checkpoint."""

    def __init__(self, config: NonfiniteConfig, device: torch.device, saved: Mapping[str, int]):
        self._config = config
        self._norms = torch.zeros(config.check_every, len(GRADIENT_NORMS), device=device)
        self._steps: list[int] = []
        self.in_a_row, self.skipped, self.rollbacks = (
            saved.get(key, 0) for key in ("in_a_row", "skipped", "rollbacks")
        )
        self.last: deque[tuple[int, list[float]]] = deque(maxlen=NORMS_KEPT)

    def note(self, step: int, metrics: Mapping[str, Tensor]) -> None:
        """Keep the gradient norms of `step` on the device. `check` at least once in `check_every` steps."""
        self._norms[len(self._steps)] = torch.stack([metrics[name] for name in GRADIENT_NORMS])
        self._steps.append(step)

    def check(self) -> list[SkippedStep]:
        """The steps skipped since the last check. Waits for the device."""
        found = []
        for step, norms in zip(self._steps, self._norms[: len(self._steps)].tolist(), strict=True):
            self.last.append((step, norms))
            updates = "".join(name for name, norm in zip("DG", norms, strict=True) if not math.isfinite(norm))
            self.in_a_row = self.in_a_row + 1 if updates else 0
            if updates:
                self.skipped += 1
                found.append(SkippedStep(step, updates))
        self._steps = []
        return found

    def too_many(self, step: int) -> bool:
        """Whether to roll back. True at multiples of `check_every` only, so that it does not depend on when the run logs or saves."""
        return step % self._config.check_every == 0 and self.in_a_row >= self._config.max_in_a_row

    def may_roll_back(self) -> bool:
        """Count one rollback. Returns whether it is allowed."""
        self.in_a_row = 0
        self.rollbacks += 1
        return self.rollbacks <= self._config.max_rollbacks

    def state(self) -> dict[str, int]:
        """The counts that a checkpoint stores. Call `check` first."""
        return {"in_a_row": self.in_a_row, "skipped": self.skipped, "rollbacks": self.rollbacks}


class Rollback:
    """Reports skipped updates and rolls back. `restore` loads a checkpoint into the trainer; `images_of` gives the image indexes of
    a step."""

    def __init__(
        self,
        config: Config,
        cluster: Cluster,
        folder: MainFolder,
        saved: Mapping[str, int],
        restore: Callable[[Checkpoint], None],
        images_of: Callable[[int], list[int]],
    ):
        self._config, self._cluster, self._folder = config, cluster, folder
        self._restore, self._images_of = restore, images_of
        self._skipped = SkippedUpdates(config.nonfinite, cluster.device, saved)

    def watch(self, step: int, metrics: Mapping[str, Tensor], now: bool = False) -> None:
        """Record whether the updates of `step` were skipped. At every `check_every`-th step, or `now`, report and maybe roll back.

        Raises Diverged if no rollback is left or there is no checkpoint.
        """
        skipped = self._skipped
        skipped.note(step, metrics)
        if now or step % self._config.nonfinite.check_every == 0:
            self.report()
        if skipped.too_many(step):
            self.go_back(f"{skipped.in_a_row} consecutive steps up to step {step} had a non-finite loss or gradient")

    def report(self) -> None:
        """Log the steps skipped since the last report, with their images."""
        found = self._skipped.check()
        if found:
            self._cluster.announce(f"warning: {skip_message(found)}")
        for each in found:
            facts = {"updates": each.updates, "images": self._images_of(each.step)}
            images_seen = each.step * self._config.train.global_batch
            self._folder.do(
                partial(RunFolder.append, kind="skipped", step=each.step, images_seen=images_seen, facts=facts)
            )

    def go_back(self, reason: str) -> None:
        """Load the newest valid checkpoint. The step number and the data stream are not reset.

        Raises Diverged if no rollback is left or there is no checkpoint.
        """
        limit, see = self._config.nonfinite.max_rollbacks, f"see {self._config.output}/post_mortem.json"
        if not self._skipped.may_roll_back():
            raise Diverged(f"training diverged after {limit} rollbacks: {reason}; {see}")
        checkpoint, complaints = self._folder.do(RunFolder.newest_checkpoint)
        if checkpoint is None:
            raise Diverged(f"training diverged with no checkpoint to return to: {reason}; {see}")
        self._restore(checkpoint)
        damaged = [f"skipping a damaged checkpoint: {complaint}" for complaint in complaints]
        count = f"rollback {self._skipped.rollbacks} of {limit}"
        self._cluster.announce(*damaged, f"warning: {reason}; {count}, to the state of step {checkpoint.step}")

    def state(self) -> dict[str, int]:
        """The counts that a checkpoint stores. Call `report` first."""
        return self._skipped.state()

    def write_post_mortem(self, folder: RunFolder, error: Diverged) -> None:
        """Write post_mortem.json with the last gradient norms. Rank zero calls it."""
        norms: list[dict[str, Any]] = [
            {"step": step} | dict(zip(GRADIENT_NORMS, norms, strict=True)) for step, norms in self._skipped.last
        ]
        facts = {"error": str(error), "nonfinite": self.state(), "gradient_norms": norms}
        with suppress(OSError):  # `error` is more important
            folder.write_post_mortem(facts | {"config": self._config.model_dump(mode="json")})


def skip_message(skipped: Sequence[SkippedStep]) -> str:
    """The warning about the steps of one check."""
    steps = ", ".join(str(each.step) for each in skipped)
    updates = " and ".join(name for name in "DG" if any(name in each.updates for each in skipped))
    plural = len(skipped) > 1
    return (
        f"skipped the update{'s' if plural else ''} of {updates} in step{'s' if plural else ''} {steps}: "
        "a loss or gradient was not finite; metrics.jsonl lists the images"
    )
