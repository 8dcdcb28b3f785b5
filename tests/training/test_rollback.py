from __future__ import annotations

import math

import torch

from infogan_dist.config.running import BadStepsConfig
from infogan_dist.training.rollback import BadSteps, SkippedStep, in_words

CPU = torch.device("cpu")


def noted(bad: BadSteps, norms: dict[int, tuple[float, float]]) -> list[SkippedStep]:
    for step, (of_D, of_G) in norms.items():
        bad.note(step, {"gradient/D": torch.tensor(of_D), "gradient/G": torch.tensor(of_G)})
    return bad.look()


def test_a_look_finds_the_steps_and_sides_that_were_skipped() -> None:
    bad = BadSteps(BadStepsConfig(look_every=5), CPU, {})
    assert noted(bad, {1: (1.0, 2.0), 2: (math.nan, 1.0), 3: (math.inf, math.nan)}) == [
        SkippedStep(2, "D"),
        SkippedStep(3, "DG"),
    ]
    assert bad.state() == {"in_a_row": 2, "skipped": 2, "rollbacks": 0}
    assert noted(bad, {4: (1.0, 1.0)}) == []
    assert bad.state() == {"in_a_row": 0, "skipped": 2, "rollbacks": 0}
    assert bad.look() == []
    assert [step for step, _ in bad.last] == [1, 2, 3, 4]


def test_the_run_goes_back_after_so_many_in_a_row_at_steps_that_do_not_depend_on_when_it_looks() -> None:
    config = BadStepsConfig(in_a_row=3, look_every=5, rollbacks=1)
    once, often = (BadSteps(config, CPU, {}) for _ in range(2))
    steps = {step: (math.nan if step > 2 else 1.0, 1.0) for step in range(1, 6)}
    noted(once, steps)
    for step, norms in steps.items():
        noted(often, {step: norms})
        assert often.too_many(step) == (step == 5)
    assert once.too_many(5)
    assert once.state() == often.state()
    assert once.goes_back()
    assert not once.too_many(5)
    noted(once, dict.fromkeys(range(6, 11), (1.0, math.nan)))
    assert once.too_many(10)
    assert not once.goes_back()


def test_it_goes_on_from_what_a_checkpoint_kept() -> None:
    config = BadStepsConfig(in_a_row=2, look_every=2)
    bad = BadSteps(config, CPU, {"in_a_row": 1, "skipped": 7, "rollbacks": 2})
    noted(bad, {6: (math.nan, 1.0)})
    assert bad.too_many(6)
    assert bad.state() == {"in_a_row": 2, "skipped": 8, "rollbacks": 2}


def test_it_says_which_steps_and_sides() -> None:
    assert in_words([SkippedStep(3, "G")]).startswith("step 3 was skipped: a loss or gradient of G was not finite")
    assert in_words([SkippedStep(3, "G"), SkippedStep(4, "D")]).startswith(
        "steps 3, 4 were skipped: a loss or gradient of D and G"
    )
