"""How a run shows that it advances: a progress bar in a terminal, else one line for each logged row."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import tqdm

SHORT_NAMES = {  # of metrics; a name that ends in / holds for each code
    "loss/D": "D",
    "loss/G": "G",
    "score/real": "D(x)",
    "score/fake_before_G": "D(G)",
    "health/D_accuracy": "acc",
    "mi/": "I",
    "health/usage_entropy/": "H",
    "health/diversity": "std",
}
LEGEND = (
    "progress: D, G losses; D(x), D(G) mean scores of reals and fakes; acc accuracy of D; I mutual information bound L_I of each\n"
    "code, nats; H entropy of Q's classes on reals, nats (ln K: all used evenly); std deviation of pixels within a class"
)


class Progress:
    """Counts the steps of a run from `start` to `total`. Shows nothing unless `visible`."""

    def __init__(self, start: int, total: int, visible: bool):
        self._step, self._total, self._visible = start, total, visible
        self._terminal = sys.stderr.isatty()
        self._bar: tqdm[Any] = tqdm(
            initial=start, total=total, unit="step", dynamic_ncols=True, disable=not (visible and self._terminal)
        )
        self._first, self._since = start, time.perf_counter()

    def advance(self) -> None:
        """One more step is done."""
        self._step += 1
        self._bar.update()

    def show(self, step: int, metrics: dict[str, float], images_per_second: float) -> None:
        """Show the metrics of a logged step."""
        short = shortened(metrics)
        if self._terminal:
            self._bar.set_postfix(short, refresh=False)
        elif self._visible:
            pace = (time.perf_counter() - self._since) / max(1, step - self._first)
            left = tqdm.format_interval((self._total - step) * pace)
            values = ", ".join(f"{name} {value}" for name, value in short.items())
            print(f"step {step}/{self._total}: {values}, {images_per_second:,.0f} images/s, {left} left", flush=True)

    def close(self) -> None:
        self._bar.close()


def shortened(metrics: dict[str, float]) -> dict[str, str]:
    """Some of the metrics by SHORT_NAMES; those of several codes are joined by slashes."""
    shown = {}
    for key, short in SHORT_NAMES.items():
        found = [
            f"{value:.2f}"
            for name, value in metrics.items()
            if name == key or (key.endswith("/") and name.startswith(key))
        ]
        if found:
            shown[short] = "/".join(found)
    return shown
