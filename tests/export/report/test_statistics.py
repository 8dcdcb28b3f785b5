from __future__ import annotations

import pytest

from infogan_dist.export.report.statistics import mean_interval, proportion_interval


def test_interval_of_a_mean_is_students() -> None:
    interval = mean_interval([1.0, 2.0, 3.0])
    assert interval == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), abs=1e-5)  # t of 2 degrees, 97.5 %
    assert mean_interval([1.0]) is None


def test_interval_of_a_proportion_is_wilsons() -> None:
    assert proportion_interval(0.1, 100) == pytest.approx((0.0552291, 0.1743657), abs=1e-6)
    assert proportion_interval(0.0, 10) == pytest.approx((0.0, 0.2775328), abs=1e-6)
    assert proportion_interval(1.0, 10)[1] == 1.0
