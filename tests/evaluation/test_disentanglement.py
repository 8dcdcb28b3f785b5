"""Known answers on random factors: a nominal shape and two ordered positions."""

from __future__ import annotations

import math

import pytest
import torch

from infogan_dist.evaluation.metrics.disentanglement import (
    Variables,
    disentanglement_completeness_informativeness,
    factor_vae_score,
    importance_scores,
    mutual_information_gap,
    predictability_gap,
)
from infogan_dist.randomness import Stream

COUNT = 3000
ROWS = torch.arange(COUNT)
STREAM = Stream(0, "disentanglement")
SHAPE = STREAM.derived("shape").integers(ROWS, 1, below=4).float()
POSITIONS = 2 * STREAM.derived("places").integers(ROWS, 2, below=10).float() / 9 - 1
FACTORS = Variables(torch.cat((SHAPE, POSITIONS), dim=1), (True, False, False))
RELABELLED = torch.tensor([2.0, 0.0, 3.0, 1.0])[SHAPE.long()]

PERFECT = Variables(torch.cat((-POSITIONS[:, 1:], RELABELLED, 3 * POSITIONS[:, :1]), dim=1), (False, True, False))
RANDOM = Variables(
    torch.cat((STREAM.derived("r").uniform(ROWS, 2), STREAM.derived("c").integers(ROWS, 1, below=4).float()), dim=1),
    (False, False, True),
)
ROTATED = Variables(POSITIONS @ torch.tensor([[1.0, 1.0], [1.0, -1.0]]) / math.sqrt(2), (False, False))
TWO_POSITIONS = Variables(POSITIONS, (False, False))


def test_mig_of_perfect_rotated_and_random_codes() -> None:
    assert mutual_information_gap(PERFECT, FACTORS) > 0.97
    assert mutual_information_gap(ROTATED, TWO_POSITIONS) < 0.1
    assert mutual_information_gap(RANDOM, FACTORS) < 0.05
    twice = Variables(torch.cat((PERFECT.values, PERFECT.values), dim=1), (False, True, False) * 2)
    assert mutual_information_gap(twice, FACTORS) == pytest.approx(0), "a factor that two codes encode has no gap"


def test_mig_is_half_where_the_second_code_has_half_of_the_information() -> None:
    bits = Stream(1, "bits").integers(ROWS, 2, below=2)
    factor = Variables((2 * bits[:, :1] + bits[:, 1:]).float(), (True,))
    codes = Variables(torch.cat((factor.values, bits[:, 1:].float()), dim=1), (True, True))
    assert mutual_information_gap(codes, factor) == pytest.approx(0.5, abs=0.01)


def test_factor_vae_of_perfect_rotated_and_random_codes() -> None:
    assert factor_vae_score(PERFECT, FACTORS, Stream(0, "votes")) > 0.99
    assert factor_vae_score(RANDOM, FACTORS, Stream(0, "votes")) < 0.45  # chance is 1/3
    assert factor_vae_score(ROTATED, TWO_POSITIONS, Stream(0, "votes")) < 0.65  # chance is 1/2


def test_a_constant_code_is_left_out_of_the_votes() -> None:
    constant = Variables(torch.cat((PERFECT.values, torch.ones(COUNT, 1)), dim=1), (*PERFECT.discrete, False))
    assert factor_vae_score(constant, FACTORS, Stream(0, "votes")) > 0.99
    assert factor_vae_score(Variables(torch.ones(COUNT, 2), (False, False)), FACTORS, Stream(0, "votes")) == 0


@pytest.mark.parametrize(("deviation", "score"), [(0.051, 1), (0.049, 0.5)])
def test_a_weak_code_votes_from_the_standard_deviation_of_disentanglement_lib_on(
    deviation: float, score: float
) -> None:
    """The second code has a 20th of the first one's spread, a 400th of its variance, and alone holds the second factor."""
    weak = POSITIONS / POSITIONS.std(0) * torch.tensor([1, deviation])
    found = factor_vae_score(Variables(weak, (False, False)), TWO_POSITIONS, Stream(0, "votes"))
    assert found == pytest.approx(score, abs=0.05)
    only = Variables(weak[:, 1:], (False,))
    assert (factor_vae_score(only, Variables(POSITIONS[:, 1:], (False,)), Stream(0, "votes")) == 1) == (score == 1)


def test_the_predictability_gap_of_perfect_rotated_and_random_codes() -> None:
    # the gap of both positions is 1; that of the shape is 1 minus the accuracy of the second code's majority, about a quarter
    assert predictability_gap(PERFECT, FACTORS) == pytest.approx((2 + 0.7) / 3, abs=0.03)
    assert predictability_gap(ROTATED, TWO_POSITIONS) < 0.05
    assert predictability_gap(RANDOM, FACTORS) < 0.05


def test_the_predictability_gap_of_a_discrete_code_on_a_continuous_factor_uses_class_means() -> None:
    binned = Variables(((POSITIONS[:, :1] + 1) * 4.5).round(), (True,))
    shuffled = Variables(Stream(0, "s").permutation(0, 10).float()[binned.values.long()], (True,))
    position = Variables(POSITIONS[:, :1], (False,))
    assert predictability_gap(shuffled, position) == pytest.approx(1)


def test_dci_of_perfect_rotated_and_random_codes() -> None:
    pytest.importorskip("sklearn")
    perfect = disentanglement_completeness_informativeness(PERFECT, FACTORS, Stream(0, "dci"))
    assert min(perfect.values()) > 0.97
    rotated = disentanglement_completeness_informativeness(ROTATED, TWO_POSITIONS, Stream(0, "dci"))
    assert max(rotated["disentanglement"], rotated["completeness"]) < 0.2
    assert rotated["informativeness"] > 0.9, "rotated codes still contain all information"
    random = disentanglement_completeness_informativeness(RANDOM, FACTORS, Stream(0, "dci"))
    assert random["disentanglement"] < 0.2
    assert random["informativeness"] < 0.15


def test_completeness_and_disentanglement_are_weighted_by_importance() -> None:
    """The first factor has 3/4 of the importance, in one code; the second is spread evenly over both, so its completeness is 0."""
    found = importance_scores(torch.tensor([[6.0, 1.0], [0.0, 1.0]], dtype=torch.float64))
    assert found["completeness"] == pytest.approx(6 / 8)
    first = 1 + (6 / 7 * math.log2(6 / 7) + 1 / 7 * math.log2(1 / 7))
    assert found["disentanglement"] == pytest.approx(7 / 8 * first + 1 / 8)
    unused = importance_scores(torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64))
    assert unused["completeness"] == pytest.approx(0), "a factor that no code predicts is not complete"
    assert importance_scores(torch.eye(3).double()) == pytest.approx({"completeness": 1, "disentanglement": 1})
    assert importance_scores(torch.zeros(2, 2).double()) == {"completeness": 0, "disentanglement": 0}


def test_scores_are_repeatable() -> None:
    pytest.importorskip("sklearn")
    first, second = (disentanglement_completeness_informativeness(ROTATED, TWO_POSITIONS, Stream(0, "x")) for _ in "ab")
    assert first == second
    assert factor_vae_score(ROTATED, TWO_POSITIONS, Stream(0, "x")) == factor_vae_score(
        ROTATED, TWO_POSITIONS, Stream(0, "x")
    )
