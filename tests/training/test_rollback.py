from __future__ import annotations

import math

import torch

from infogan_dist.config.running import NonfiniteConfig
from infogan_dist.training.rollback import SkippedStep, SkippedUpdates, skip_message

CPU = torch.device("cpu")


def noted(skipped: SkippedUpdates, norms: dict[int, tuple[float, float]]) -> list[SkippedStep]:
    for step, (of_D, of_G) in norms.items():
        skipped.note(step, {"gradient/D": torch.tensor(of_D), "gradient/G": torch.tensor(of_G)})
    return skipped.check()


def test_check_finds_the_skipped_steps_and_updates() -> None:
    skipped = SkippedUpdates(NonfiniteConfig(check_every=5), CPU, {})
    assert noted(skipped, {1: (1.0, 2.0), 2: (math.nan, 1.0), 3: (math.inf, math.nan)}) == [
        SkippedStep(2, "D"),
        SkippedStep(3, "DG"),
    ]
    assert skipped.state() == {"in_a_row": 2, "skipped": 2, "rollbacks": 0}
    assert noted(skipped, {4: (1.0, 1.0)}) == []
    assert skipped.state() == {"in_a_row": 0, "skipped": 2, "rollbacks": 0}
    assert skipped.check() == []
    assert [step for step, _ in skipped.last] == [1, 2, 3, 4]


def test_rollback_step_does_not_depend_on_when_updates_are_checked() -> None:
    config = NonfiniteConfig(max_in_a_row=3, check_every=5, max_rollbacks=1)
    once, often = (SkippedUpdates(config, CPU, {}) for _ in range(2))
    steps = {step: (math.nan if step > 2 else 1.0, 1.0) for step in range(1, 6)}
    noted(once, steps)
    for step, norms in steps.items():
        noted(often, {step: norms})
        assert often.too_many(step) == (step == 5)
    assert once.too_many(5)
    assert once.state() == often.state()
    assert once.may_roll_back()
    assert not once.too_many(5)
    noted(once, dict.fromkeys(range(6, 11), (1.0, math.nan)))
    assert once.too_many(10)
    assert not once.may_roll_back()


def test_counts_continue_from_a_checkpoint() -> None:
    config = NonfiniteConfig(max_in_a_row=2, check_every=2)
    skipped = SkippedUpdates(config, CPU, {"in_a_row": 1, "skipped": 7, "rollbacks": 2})
    noted(skipped, {6: (math.nan, 1.0)})
    assert skipped.too_many(6)
    assert skipped.state() == {"in_a_row": 2, "skipped": 8, "rollbacks": 2}


def test_skip_message_names_steps_and_updates() -> None:
    assert skip_message([SkippedStep(3, "G")]).startswith(
        "skipped the update of G in step 3: a loss or gradient was not"
    )
    assert skip_message([SkippedStep(3, "G"), SkippedStep(4, "D")]).startswith(
        "skipped the updates of D and G in steps 3, 4: a loss or gradient"
    )
