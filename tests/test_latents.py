from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.functional import one_hot

from infogan_dist.config.model import NoiseConfig
from infogan_dist.errors import UserError
from infogan_dist.latents import STRATA_PER_CLASS, Codes, Latents, LatentSpec, classes_of
from infogan_dist.randomness import Stream

SPEC = LatentSpec((NoiseConfig(dim=5), NoiseConfig(dim=3, distribution="normal")), categorical=(10, 4), continuous=2)
POSITIONS = torch.arange(2000)


def test_widths_names_and_entropies() -> None:
    assert SPEC.noise_dim == 8
    assert SPEC.dim == 8 + 14 + 2
    assert SPEC.posterior_dim == 14 + 2 * 2
    assert SPEC.code_names == ("categorical_0", "categorical_1", "continuous_0", "continuous_1")
    expected = [math.log(10), math.log(4), math.log(2), math.log(2)]
    assert list(SPEC.entropies().values()) == pytest.approx(expected)
    assert SPEC.ceilings() == pytest.approx({"categorical_0": math.log(10), "categorical_1": math.log(4)})


def test_sources_are_drawn_each_from_its_distribution() -> None:
    latents = SPEC.draw(Stream(0, "latents"), POSITIONS)
    uniform, normal = latents.noise.split([5, 3], dim=1)
    assert uniform.abs().max() <= 1
    assert uniform.var().item() == pytest.approx(1 / 3, rel=0.05)
    assert normal.var().item() == pytest.approx(1, rel=0.05)
    assert normal.abs().max() > 2
    assert latents.codes.categorical.amax(0).tolist() == [9, 3]
    assert latents.codes.continuous.abs().max() <= 1
    assert latents.codes.continuous.min() < -0.9


def test_a_ranks_slice_is_part_of_the_whole() -> None:
    whole = SPEC.vector(SPEC.draw(Stream(0, "latents"), POSITIONS))
    part = SPEC.vector(SPEC.draw(Stream(0, "latents"), POSITIONS[700:900]))
    assert torch.equal(part, whole[700:900])


def test_a_second_source_leaves_the_first_as_it_was() -> None:
    one = LatentSpec(SPEC.noise[:1], (10,), 0)
    two = LatentSpec(SPEC.noise, (10,), 3)
    a, b = (spec.draw(Stream(0, "latents"), POSITIONS) for spec in (one, two))
    assert torch.equal(a.noise, b.noise[:, :5])
    assert torch.equal(a.codes.categorical, b.codes.categorical)


def test_the_vector_is_noise_then_one_hots_then_levels() -> None:
    latents = SPEC.draw(Stream(0, "latents"), POSITIONS[:3])
    vector = SPEC.vector(latents)
    assert torch.equal(vector[:, :8], latents.noise)
    assert torch.equal(vector[:, 8:18].argmax(1), latents.codes.categorical[:, 0])
    assert torch.equal(vector[:, 18:22].argmax(1), latents.codes.categorical[:, 1])
    assert torch.equal(vector[:, 8:22].sum(1), torch.full((3,), 2.0))
    assert torch.equal(vector[:, 22:], latents.codes.continuous)


def test_no_codes_at_all_is_a_plain_gan() -> None:
    spec = LatentSpec((NoiseConfig(dim=4),), (), 0)
    assert spec.vector(spec.draw(Stream(0, "latents"), POSITIONS[:2])).shape == (2, 4)
    assert spec.entropies() == {}


@pytest.mark.parametrize("levels", [2, 3, 10])
def test_levels_are_evenly_spaced_from_minus_1_to_1_and_equally_frequent(levels: int) -> None:
    spec = replace(SPEC, levels=levels)
    drawn, whole = (each.draw(Stream(0, "latents"), POSITIONS) for each in (spec, SPEC))
    values, counts = drawn.codes.continuous.unique(return_counts=True)
    assert torch.equal(values, torch.linspace(-1, 1, levels, dtype=torch.float64).float())
    assert counts.tolist() == pytest.approx([2 * len(POSITIONS) / levels] * levels, rel=0.2)
    assert values.double().var(correction=0).item() == pytest.approx(spec.continuous_variance)
    assert not torch.equal(drawn.codes.continuous[:, 0], drawn.codes.continuous[:, 1])
    nearest = ((whole.codes.continuous + 1) / 2 * levels).floor()
    assert torch.equal(nearest, ((drawn.codes.continuous + 1) / 2 * (levels - 1)).round()), (
        "the draw of U(-1, 1), quantised"
    )
    assert torch.equal(drawn.noise, whole.noise)
    part = spec.draw(Stream(0, "latents"), POSITIONS[700:900])
    assert torch.equal(part.codes.continuous, drawn.codes.continuous[700:900])
    assert spec.entropies() == SPEC.entropies()


def test_a_code_with_levels_takes_values_between_them() -> None:
    spec = replace(SPEC, levels=3)
    assert spec.with_values(spec.neutral_codes(1), {"continuous_0": 0.25}).continuous[0, 0] == 0.25
    assert spec.beyond_training({"continuous_0": 0.25}) == []
    assert spec.sweep_values("continuous_0", 5).tolist() == [-1, -0.5, 0, 0.5, 1]


def test_codes_are_set_by_name() -> None:
    codes = SPEC.with_values(SPEC.neutral_codes(4), {"categorical_1": 3, "continuous_0": torch.tensor([-1, 0, 0.5, 1])})
    assert codes.categorical.tolist() == [[0, 3]] * 4
    assert codes.continuous[:, 0].tolist() == [-1, 0, 0.5, 1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"categorical_2": 0}, "there is no code categorical_2; this model has categorical_0"),
        ({"categorical_0": 10}, "0 to 9, not 10"),
        ({"categorical_0": 1.5}, "0 to 9, not 1.5"),
        ({"categorical_0": -1}, "0 to 9, not -1"),
        ({"continuous_0": math.nan}, "continuous_0 is not a finite number"),
    ],
)
def test_a_wrong_code_is_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SPEC.with_values(SPEC.neutral_codes(1), values)


def test_a_list_gives_each_image_its_value() -> None:
    values = {"categorical_0": [1, 2, 3], "continuous_1": [-1.0, 0.0, 1.0]}
    codes = SPEC.with_values(SPEC.neutral_codes(3), values)
    assert codes.categorical[:, 0].tolist() == [1, 2, 3]
    assert codes.continuous[:, 1].tolist() == [-1, 0, 1]
    with pytest.raises(UserError, match="categorical_0 has 3 values for 4 images"):
        SPEC.with_values(SPEC.neutral_codes(4), {"categorical_0": [1, 2, 3]})


def test_a_list_is_repeated_along_positions() -> None:
    codes = SPEC.with_values(SPEC.neutral_codes(4), {"categorical_0": [1, 2, 3]}, torch.tensor([0, 2, 3, 64]))
    assert codes.categorical[:, 0].tolist() == [1, 3, 1, 2]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 10], "0 to 9, not 10"),
        ([1, 2.5], "0 to 9, not 2.5"),
        ([], "a number or a list of numbers"),
        ([[1, 2]], "a number or a list of numbers"),
        (["a"], "does not take"),
        (2**70, "does not take"),
    ],
)
def test_a_wrong_list_is_refused_whatever_the_position(value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        SPEC.with_values(SPEC.neutral_codes(1), {"categorical_0": value}, torch.tensor([0]))


def test_values_that_training_never_saw_are_named() -> None:
    found = SPEC.beyond_training({"continuous_0": [0.5, -1.5], "continuous_1": 1, "categorical_0": 9})
    assert found == ["continuous_0 = -1.5, but training saw -1 to 1: the images may be poor"]
    assert SPEC.beyond_training({}) == []


def test_latents_are_taken_and_joined_by_image() -> None:
    drawn = SPEC.draw(Stream(0, "latents"), POSITIONS[:10])
    again = Latents.joined([drawn.at(torch.arange(4)), drawn.at(torch.arange(4, 10))])
    assert torch.equal(SPEC.vector(again), SPEC.vector(drawn))
    assert len(drawn.at(torch.tensor([3, 3]))) == 2
    assert torch.equal(drawn.at(torch.tensor([3])).codes.categorical[0], drawn.codes.categorical[3])


def test_sweeps() -> None:
    assert SPEC.sweep_values("categorical_1", 99).tolist() == [0, 1, 2, 3]
    assert SPEC.sweep_values("continuous_0", 3, -2, 2).tolist() == [-2, 0, 2]


def test_balanced_classes_come_once_in_every_k_positions_wherever_they_are_drawn() -> None:
    spec = LatentSpec(SPEC.noise, (10, 4), 0, balanced=True)
    whole = spec.draw(Stream(0, "latents"), torch.arange(400)).codes.categorical
    for column, width in enumerate((10, 4)):
        runs = whole[:, column].view(-1, width)
        assert torch.equal(runs.sort(1).values, torch.arange(width).expand(len(runs), -1))
        assert len({tuple(run) for run in runs.tolist()}) > 10  # in random order
    part = spec.draw(Stream(0, "latents"), torch.arange(37, 91)).codes.categorical
    assert torch.equal(part, whole[37:91])


def test_pairs_share_one_continuous_code_and_nothing_else() -> None:
    spec = LatentSpec((NoiseConfig(dim=2),), (), continuous=3)
    positions, stream = torch.arange(400), Stream(0, "pairs")
    drawn = spec.draw(Stream(0, "latents"), positions).codes
    codes, shared = spec.share_in_pairs(drawn, stream, positions)
    first, second = codes.continuous[::2], codes.continuous[1::2]
    equal = first == second
    assert equal.sum(1).tolist() == [1] * 200
    assert torch.equal(equal.int().argmax(1), shared)
    assert torch.equal(first, drawn.continuous[::2])
    assert shared.bincount().min() > 40
    later, named = spec.share_in_pairs(Codes(drawn.categorical[100:], drawn.continuous[100:]), stream, positions[100:])
    assert torch.equal(later.continuous, codes.continuous[100:]), "a function of the position"
    assert torch.equal(named, shared[50:])


def test_the_inverse_cdf_maps_draws_to_classes() -> None:
    draws = torch.tensor([[0.0, 0.0], [0.49, 0.1], [0.5, 0.5], [0.7499, 0.999], [0.75, 1.0]], dtype=torch.float64)
    classes = classes_of(draws, [torch.tensor([0.5, 0.25, 0.25]), torch.tensor([0.0, 2.0])])
    assert classes[:, 0].tolist() == [0, 0, 1, 1, 2]
    assert classes[:, 1].tolist() == [1] * 5, "a class of probability 0 is never drawn; priors need no sum of 1"


def test_a_uniform_learned_prior_draws_the_classes_of_the_uniform_one() -> None:
    learned = replace(SPEC, priors=((1 / 10,) * 10, (1 / 4,) * 4))
    ours, theirs = (spec.draw(Stream(0, "latents"), POSITIONS) for spec in (learned, SPEC))
    assert torch.equal(ours.codes.categorical, theirs.codes.categorical)
    assert learned.entropies() == pytest.approx(SPEC.entropies())


def test_a_prior_sets_the_frequencies_and_the_entropy() -> None:
    spec = SPEC.with_priors([torch.arange(10.0), torch.tensor([4.0, 2.0, 1.0, 1.0])])
    drawn = spec.draw(Stream(0, "latents"), torch.arange(40_000)).codes.categorical
    for column, prior in enumerate(spec.priors):
        frequencies = drawn[:, column].bincount(minlength=len(prior)) / len(drawn)
        assert frequencies.tolist() == pytest.approx(prior, abs=0.01)
    assert spec.ceilings()["categorical_1"] == pytest.approx(1.75 * math.log(2))
    assert spec.class_shares()["categorical_1"] == (0.5, 0.25, 0.125, 0.125)
    assert SPEC.class_shares()["categorical_1"] == (0.25,) * 4


def test_balanced_draws_from_a_prior_have_counts_near_their_expectation_wherever_they_are_drawn() -> None:
    prior = torch.tensor([0.5, 0.3, 0.19, 0.01])
    spec = LatentSpec(SPEC.noise, (4,), 0, balanced=True).with_priors([prior])
    run = 4 * STRATA_PER_CLASS
    whole = spec.draw(Stream(0, "latents"), torch.arange(50 * run)).codes.categorical
    counts = one_hot(whole.view(50, run), 4).sum(1)
    assert (counts - run * prior).abs().max() < 2
    assert len({tuple(row) for row in whole.view(50, run).tolist()}) == 50, "in random order"
    assert counts[:, 3].sum() == pytest.approx(50 * run * 0.01, abs=20), "rare, but drawn"
    part = spec.draw(Stream(0, "latents"), torch.arange(37, 191)).codes.categorical
    assert torch.equal(part, whole[37:191])
