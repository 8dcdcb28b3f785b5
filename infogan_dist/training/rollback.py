"""Bad steps: which updates were skipped because a loss or gradient was not finite, known late, and when to go back."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from infogan_dist.config.running import BadStepsConfig

NORMS = ("gradient/D", "gradient/G")  # what `train_step` measures of each side's update
REMEMBERED = 100  # norms that a post-mortem shows


@dataclass(frozen=True)
class SkippedStep:
    """A step in which the update of D's side, of G's, or both was skipped."""

    step: int
    sides: str


class BadSteps:
    """The steps that were skipped, known when they are looked for, and how often the run went back because of them.

    `saved` is what `state` gave. Every rank makes one; all come to the same answers.
    """

    def __init__(self, config: BadStepsConfig, device: torch.device, saved: Mapping[str, int]):
        self._config = config
        self._norms = torch.zeros(config.look_every, len(NORMS), device=device)
        self._steps: list[int] = []
        self.in_a_row, self.skipped, self.rollbacks = (
            saved.get(key, 0) for key in ("in_a_row", "skipped", "rollbacks")
        )
        self.last: deque[tuple[int, list[float]]] = deque(maxlen=REMEMBERED)

    def note(self, step: int, metrics: Mapping[str, Tensor]) -> None:
        """Remember how `step` went, on the device. `look` at the latest after every `look_every` of these."""
        self._norms[len(self._steps)] = torch.stack([metrics[name] for name in NORMS])
        self._steps.append(step)

    def look(self) -> list[SkippedStep]:
        """The steps skipped since the last look. Waits for the device."""
        found = []
        for step, norms in zip(self._steps, self._norms[: len(self._steps)].tolist(), strict=True):
            self.last.append((step, norms))
            sides = "".join(side for side, norm in zip("DG", norms, strict=True) if not math.isfinite(norm))
            self.in_a_row = self.in_a_row + 1 if sides else 0
            if sides:
                self.skipped += 1
                found.append(SkippedStep(step, sides))
        self._steps = []
        return found

    def too_many(self, step: int) -> bool:
        """Whether the run should go back, which is decided at every `look_every`-th step, whenever it logs or saves."""
        return step % self._config.look_every == 0 and self.in_a_row >= self._config.in_a_row

    def goes_back(self) -> bool:
        """Count one return to a checkpoint; whether it may."""
        self.in_a_row = 0
        self.rollbacks += 1
        return self.rollbacks <= self._config.rollbacks

    def state(self) -> dict[str, int]:
        """What a checkpoint keeps of it, after a look."""
        return {"in_a_row": self.in_a_row, "skipped": self.skipped, "rollbacks": self.rollbacks}


def in_words(skipped: Sequence[SkippedStep]) -> str:
    """One line for the user about the steps of one look."""
    steps = ", ".join(str(each.step) for each in skipped)
    sides = " and ".join(side for side in "DG" if any(side in each.sides for each in skipped))
    many = len(skipped) > 1
    return (
        f"step{'s' if many else ''} {steps} {'were' if many else 'was'} skipped: a loss or gradient of {sides} was not finite; "
        "metrics.jsonl names the images"
    )
