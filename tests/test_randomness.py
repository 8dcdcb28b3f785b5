from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from infogan_dist.randomness import DataOrder, Stream, philox

ROWS = torch.arange(20_000)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # known answers from the Random123 library (Salmon et al. 2011), philox4x32-10
        ([0] * 4, (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([0xFFFFFFFF] * 4, (0xFFFFFFFF, 0xFFFFFFFF), "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_matches_the_published_known_answers(counter: list[int], key: tuple[int, int], expected: str) -> None:
    words = philox(torch.tensor([counter]), key)[0]
    assert " ".join(f"{int(word):08x}" for word in words) == expected


@given(st.integers(0, 2**62), st.integers(1, 50), st.integers(1, 11))
def test_slice_of_a_stream_equals_the_stream_there(start: int, size: int, columns: int) -> None:
    stream = Stream(3, "z")
    rows = torch.arange(start, start + size)
    for draw in (stream.uniform, stream.normal):
        whole = draw(rows, columns)
        assert torch.equal(draw(rows[size // 2 :], columns), whole[size // 2 :])
    assert torch.equal(stream.uniform(rows, columns), stream.uniform(rows, columns + 5)[:, :columns])


def test_rows_beyond_32_bits_differ() -> None:
    rows = torch.tensor([5, 5 + 2**32, 5 + 2**40])
    assert len(Stream(0, "z").bits(rows, 2).unique(dim=0)) == 3


def test_streams_and_seeds_are_independent() -> None:
    draws = [Stream(seed, name).uniform(ROWS, 1)[:, 0] for seed, name in [(0, "a"), (0, "b"), (1, "a"), (2**32, "a")]]
    correlations = torch.corrcoef(torch.stack(draws)) - torch.eye(4)
    assert correlations.abs().max() < 5 / len(ROWS) ** 0.5


def test_uniform_and_normal_have_their_distributions() -> None:
    stream = Stream(7, "z")
    uniform, normal = stream.uniform(ROWS, 3), stream.normal(ROWS, 3)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert stats.kstest(uniform.flatten(), "uniform").pvalue > 1e-3
    assert stats.kstest(normal.flatten(), "norm").pvalue > 1e-3


def test_integers_are_uniform_below_their_bound() -> None:
    counts = torch.bincount(Stream(0, "c").integers(ROWS, 1, below=10).flatten(), minlength=10)
    assert len(counts) == 10
    assert stats.chisquare(counts).pvalue > 1e-3


@given(st.integers(1, 300), st.integers(0, 5))
def test_data_order_visits_every_image_once_per_epoch(size: int, epoch: int) -> None:
    order = DataOrder(1, size).at(torch.arange(epoch * size, (epoch + 1) * size))
    assert sorted(order.tolist()) == list(range(size))


def test_data_order_depends_on_epoch_and_seed_and_can_be_sliced() -> None:
    positions = torch.arange(250, 350)  # crosses the end of an epoch of 100
    order = DataOrder(1, 100)
    whole = order.at(positions)
    assert torch.equal(torch.cat([DataOrder(1, 100).at(part) for part in positions.split(7)]), whole)
    assert not torch.equal(order.at(torch.arange(100)), order.at(torch.arange(100, 200)))
    assert not torch.equal(order.at(torch.arange(100)), DataOrder(2, 100).at(torch.arange(100)))
