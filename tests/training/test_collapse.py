from __future__ import annotations

import math
from collections import deque
from dataclasses import replace
from typing import Any

import pytest

from infogan_dist.config.objective import ObjectiveConfig
from infogan_dist.config.running import CollapseConfig
from infogan_dist.latents import LatentSpec
from infogan_dist.losses import information_ceilings
from infogan_dist.training.collapse import QUIET_ROWS, CollapseWarning, collapse_warnings, new_warnings
from tests.conftest import tiny

CONFIG = tiny("x", "latents={noise: [{dim: 3}], categorical: [3, 2], continuous: 1}")
SPEC, OBJECTIVE = LatentSpec.from_config(CONFIG.latents), CONFIG.objective
COLLAPSE = CollapseConfig(rows=3, after_images=1000)
WELL: dict[str, Any] = {
    "kind": "train",
    "images_seen": 5000,
    **{"health/D_accuracy": 0.8, "health/score_gap": 0.4, "health/diversity": 0.2},
    **{"mi/categorical_0": 1.0, "mi/categorical_1": 0.5, "mi/continuous_0": 0.6},
    **{f"usage/categorical_0/{number}": 0.33 for number in range(3)},
    **{f"usage/categorical_1/{number}": 0.5 for number in range(2)},
}


def found(
    rows: list[dict[str, Any]], collapse: CollapseConfig = COLLAPSE, objective: ObjectiveConfig = OBJECTIVE
) -> list[CollapseWarning]:
    return collapse_warnings(rows, SPEC, objective, collapse)


def with_(**changes: float | None) -> list[dict[str, Any]]:
    return [WELL | changes] * 3


def test_healthy_run_gives_no_warning() -> None:
    assert found(with_()) == []


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"health/D_accuracy": 0.995}, "D saturated", ["100%", "optimizer.D.lr", "r1_gamma"]),
        ({"health/score_gap": 0.97}, "D saturated", ["D(x) - D(G(z, c)) is at least 0.97 in the last 3 logged rows"]),
        ({"mi/categorical_0": 0.01}, "categorical_0 ignored", ["0.01 nats of 1.10", "lambda_categorical = 1"]),
        ({"mi/continuous_0": -0.3}, "continuous_0 ignored", ["-0.30 nats", "lambda_continuous = 0.1"]),
        ({"health/diversity": 0.001}, "no variety", ["0.0010", "lambda_categorical"]),
        ({"health/diversity": 0.04}, "no variety", ["0.0400"]),  # of a run with one image per class
        (
            {"usage/categorical_0/2": 0.15},
            "categorical_0 rare",
            ["15.0% to class 2 on average", "33.3% for even classes"],
        ),
        ({"usage/categorical_1/0": 0.1}, "categorical_1 rare", ["10.0% to class 0", "lower collapse.rare_class"]),
        ({"usage/categorical_0/2": 0.001}, "categorical_0 unused", ["class 2 of categorical_0", "latents.balanced"]),
    ],
)
def test_each_warning_names_its_remedy(changes: dict[str, float], name: str, words: list[str]) -> None:
    (warning,) = found(with_(**changes))
    assert warning.name == name
    assert all(word in warning.message for word in words), warning.message


def test_a_wasserstein_critic_does_not_saturate() -> None:
    critic = ObjectiveConfig(adversarial="wasserstein", lambda_gradient_penalty=10.0)
    for changes in ({"health/D_accuracy": 1.0}, {"health/score_gap": 0.97}):
        assert found(with_(**changes), objective=critic) == []
        assert found(with_(**changes), objective=ObjectiveConfig(adversarial="hinge")) != []


def test_every_row_must_meet_the_condition_after_the_first_images() -> None:
    ill = with_(**{"health/diversity": 0.0})
    assert found([*ill[:2], WELL]) == []
    assert found(ill[:2]) == []
    assert found([{**ill[0], "images_seen": 999}, *ill[1:]]) == []
    assert found([WELL, *ill])
    for nothing in (None, math.nan):  # a skipped step, from the file or from memory
        assert found([ill[0] | {"health/diversity": nothing}, *ill[1:]]) == []


def test_bound_of_a_categorical_code_is_compared_with_its_entropy() -> None:
    share = 0.5 * (0.04 + 0.05)
    for width, number in ((3, 0), (2, 1)):
        changes = {f"mi/categorical_{number}": share * math.log(width)}
        assert [warning.name for warning in found(with_(**changes))] == [f"categorical_{number} ignored"]
        assert found(with_(**{f"mi/categorical_{number}": 0.06 * math.log(width)})) == []


def test_bound_of_a_continuous_code_is_compared_with_one_nat() -> None:
    (warning,) = found(with_(**{"mi/continuous_0": 0.01}))
    assert "L_I is at most 0.01 nats in the last 3 logged rows" in warning.message


def test_the_mean_share_of_a_class_over_the_rows_decides_whether_it_is_rare() -> None:
    def of(*shares: float) -> list[str]:
        return [warning.name for warning in found([WELL | {"usage/categorical_0/1": share} for share in shares])]

    assert of(0.0, 0.3, 0.18) == ["categorical_0 rare"], "0.16 on average, less than half of 1/3; one batch is noisy"
    assert of(0.0, 0.3, 0.21) == []
    assert of(0.0, 0.0, 0.001) == ["categorical_0 unused"], "and not rare as well"
    tenth = CollapseConfig(rows=3, after_images=1000, rare_class=0.1)
    assert found(with_(**{"usage/categorical_0/1": 0.05}), tenth) == []
    (warning,) = found(with_(**{"usage/categorical_0/0": 0.1, "usage/categorical_0/1": 0.02}))
    assert "10.0% to class 0, 2.0% to class 1 on average in the last 3 logged rows" in warning.message
    missing = [{key: value for key, value in WELL.items() if key != "usage/categorical_0/1"}] * 3
    assert found(missing) == []


def test_untrained_code_gives_no_warning() -> None:
    untrained = OBJECTIVE.model_copy(update={"lambda_continuous": 0.0})
    assert found(with_(**{"mi/continuous_0": -2.0}), objective=untrained) == []


def test_warning_is_new_once_while_it_comes_and_goes_and_again_after_quiet_rows() -> None:
    ill = WELL | {"health/D_accuracy": 1.0}
    comes_and_goes = [WELL, *[ill] * 4, WELL, *[ill] * 3]
    returns_in_time = [*[WELL] * (QUIET_ROWS - 3), *[ill] * 3]
    returns_late = [*[WELL] * (QUIET_ROWS - 2), *[ill] * 4]
    recent: deque[dict[str, Any]] = deque(maxlen=COLLAPSE.rows + QUIET_ROWS)
    new = []
    for number, row in enumerate([*comes_and_goes, *returns_in_time, *returns_late]):
        if new_warnings([*recent, row], SPEC, OBJECTIVE, COLLAPSE):
            new.append(number)
        recent.append(row)
    assert new == [3, len(comes_and_goes) + len(returns_in_time) + len(returns_late) - 2]


def test_with_a_learned_prior_a_rare_class_is_none_and_the_ceiling_is_its_entropy() -> None:
    priors = ((0.9, 0.08, 0.02), (0.99, 0.01))
    logged = {f"prior/categorical_{i}/{k}": p for i, prior in enumerate(priors) for k, p in enumerate(prior)}
    learned = replace(SPEC, priors=((1 / 3,) * 3, (1 / 2,) * 2))
    rows = with_(**logged, **{"usage/categorical_0/2": 0.02, "usage/categorical_1/1": 0.01, "mi/categorical_1": 0.02})

    def names(spec: LatentSpec) -> list[str]:
        return [warning.name for warning in collapse_warnings(rows, spec, OBJECTIVE, COLLAPSE)]

    assert names(SPEC) == ["categorical_1 ignored", "categorical_0 rare", "categorical_1 rare"]
    assert names(learned) == [], "0.02 of 0.056 nats"
    rows = with_(**logged, **{"usage/categorical_0/2": 0.001, "mi/categorical_1": 0.002})
    assert names(learned) == ["categorical_1 ignored", "categorical_0 unused"]
    assert "clustering_entropy_weight higher" in collapse_warnings(rows, learned, OBJECTIVE, COLLAPSE)[1].message


@pytest.mark.parametrize("levels", [0, 2, 10])
def test_a_fixed_variance_is_compared_with_a_q_that_predicts_0(levels: int) -> None:
    fixed, spec = OBJECTIVE.model_copy(update={"continuous_likelihood": "fixed"}), replace(SPEC, levels=levels)
    variance = {0: 1 / 3, 2: 1.0, 10: sum((2 * k / 9 - 1) ** 2 for k in range(10)) / 10}[levels]
    ceiling = information_ceilings(spec, fixed)["continuous_0"]

    def warned(explained: float) -> list[str]:
        rows = with_(**{"mi/continuous_0": ceiling - (1 - explained) * variance / 2})
        return [warning.name for warning in collapse_warnings(rows, spec, fixed, COLLAPSE)]

    assert warned(0.0) == warned(0.04) == ["continuous_0 ignored"]
    assert warned(0.06) == []
