from __future__ import annotations

import re
from pathlib import Path

import pytest

from infogan_dist.export.report.curves import Line, Panel, nice_ticks, panels, short, svg, thinned
from infogan_dist.export.report.runs import read_runs
from tests.export.report.conftest import make_run


def test_thinned_points_keep_the_peaks_and_the_order() -> None:
    points = [(step, 0.0) for step in range(1000)]
    points[333], points[777] = (333, 9.0), (777, -9.0)
    kept = thinned(points, 50)
    assert len(kept) <= 50
    assert {(333, 9.0), (777, -9.0)} <= set(kept)
    assert kept == sorted(kept)
    assert thinned(points[:50], 50) == points[:50]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 1, [0, 0.5, 1]), (0.2, 9.7, [0, 5, 10]), (-5, -1, [-5, -4, -3, -2, -1]), (3, 3, [2.5, 3, 3.5])],
)
def test_ticks_are_round_and_enclose_the_values(low: float, high: float, ticks: list[float]) -> None:
    found = nice_ticks(low, high)
    assert found[0] <= low <= high <= found[-1]
    assert set(ticks) <= {round(tick, 9) for tick in found}


def test_counts_are_short() -> None:
    assert [short(count) for count in (0, 900, 150_000, 1_200_000)] == ["0", "900", "150k", "1.2M"]


def test_a_value_that_is_not_finite_is_a_gap_and_a_failed_run_ends_in_a_cross() -> None:
    points: list[tuple[int, float | None]] = [(1, 1.0), (2, 2.0), (3, None), (4, 1.0), (5, 2.0)]
    drawn = svg(Panel("Losses", "nats", (Line("a<b", points, 0),), {"near": 2.5, "far": 90.0}))
    (path,) = re.findall(r'<path class="line c0" d="([^"]*)"', drawn)
    assert path.count("M") == 2
    assert "<title>a&lt;b</title>" in drawn
    assert "near</text>" in drawn
    assert "far</text>" not in drawn
    failed = svg(Panel("Losses", "nats", (Line("a", points, 9, failed=True),), {}))
    assert re.search(r'<path class="line c1" stroke-dasharray="5 3" d="M[^"]*l8 8m0-8l-8 8"/>', failed)
    assert re.findall(r'aria-label="([^"]*)"', drawn) == [
        "Losses (nats) over images seen. a&lt;b: from 1 to 2, between 1 and 2."
    ]


def test_panels_are_those_of_curves_png(tmp_path: Path) -> None:
    one = panels(read_runs([make_run(tmp_path / "a", "seed=1")]))
    assert [panel.title for panel in one] == ["Losses", "Mutual information lower bound"]  # a single point is no curve
    assert [line.label for line in one[0].lines] == ["discriminator", "generator"]
    assert set(one[0].references) == {"D at chance, 2 ln 2", "G at chance, ln 2"}
    several = panels(read_runs([tmp_path / "a", make_run(tmp_path / "b", "seed=2")]))
    assert [panel.title for panel in several] == [
        *("Losses: discriminator", "Losses: generator", "Mutual information lower bound")
    ]
    assert [line.label for line in several[0].lines] == ["a", "b"]
    assert list(several[0].references) == ["D at chance, 2 ln 2"]
    assert several[2].references == {"ceiling": pytest.approx(2.302585)}
    assert several[0].lines[0].points[6] == (84, None)
