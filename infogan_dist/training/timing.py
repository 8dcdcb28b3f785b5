"""Wall time, speed and learning rates by logged step: the rows of timing.jsonl."""

from __future__ import annotations

import time
from collections.abc import Callable

from infogan_dist.training.train_state import TrainState


class RunClock:
    """Measures the time of a run, starting now. `spent`: seconds that the run has taken before, up to `images_seen`."""

    def __init__(self, spent: float, images_seen: int, now: Callable[[], float] = time.perf_counter):
        self._now = now
        self._start = now() - spent
        self._last = now(), images_seen

    def row(self, images_seen: int) -> dict[str, float]:
        """`seconds` of the run so far, and `images_per_second` since the last row."""
        now, (before, seen) = self._now(), self._last
        self._last = now, images_seen
        return {
            "seconds": round(now - self._start, 3),
            "images_per_second": round((images_seen - seen) / max(now - before, 1e-9), 1),
        }


def learning_rates(state: TrainState) -> dict[str, float]:
    """`lr/D`, `lr/G` and `lr/Q` of the newest step. FE has D's."""
    optimizers = ((state.optimizer_D, state.owned_by_D), (state.optimizer_G, state.owned_by_G))
    return {
        f"lr/{name}": float(group["lr"])
        for optimizer, owned in optimizers
        for name, group in zip(owned, optimizer.param_groups, strict=True)
        if name != "FE"
    }
