from __future__ import annotations

import pytest

from infogan_dist.diagnostics.bench.projection import Link, StepCost

LINK = Link(bandwidth=1e9, latency=1e-5)


def test_a_ring_all_reduce_of_known_size() -> None:
    """Four processes: six messages one after another, each a quarter of 4 MB at 1 GB/s, with 10 microseconds latency."""
    assert LINK.all_reduce_seconds(calls=1, size=4e6, processes=4) == pytest.approx(6 * (1e-3 + 1e-5))
    assert LINK.all_reduce_seconds(calls=3, size=0, processes=2) == pytest.approx(3 * 2 * 1e-5)
    assert LINK.all_reduce_seconds(calls=5, size=4e6, processes=1) == 0


@pytest.mark.parametrize("processes", [2, 3, 8])
def test_a_link_is_recovered_from_two_all_reduces(processes: int) -> None:
    small, large = (LINK.all_reduce_seconds(1, size, processes) for size in (0, 2**24))
    found = Link.from_all_reduces(small, large, 2**24, processes)
    assert (found.bandwidth, found.latency) == (pytest.approx(LINK.bandwidth), pytest.approx(LINK.latency))


def test_a_step_is_the_sum_of_computation_and_reductions() -> None:
    cost = StepCost(compute=0.1, gradient_calls=2, gradient_bytes=4e6, exchange_calls=10, exchange_bytes=1e3)
    gradients, exchanges = 2 * (2 * 1e-5 + 2e-3), 2 * (10 * 1e-5 + 1e3 / 1e9)  # 1 kB from each of two processes
    assert cost.seconds(2, LINK) == pytest.approx(0.1 + gradients + exchanges)
    assert cost.seconds(1, LINK) == 0.1
    assert cost.efficiency(1, LINK) == 1
    assert cost.efficiency(64, LINK) < cost.efficiency(8, LINK) < cost.efficiency(2, LINK) < 1
