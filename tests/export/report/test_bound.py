from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from infogan_dist.cli.main import main
from infogan_dist.export.report.bound import (
    GAP,
    LEAST,
    LEFT,
    LETTER,
    LINE,
    MOST_LETTERS,
    TOP,
    WIDTH,
    Bound,
    Point,
    bound,
    picture,
    spread,
)
from infogan_dist.export.report.runs import read_runs
from infogan_dist.export.report.scores import read_scores
from tests.export.report.conftest import make_run, row_of

LN_10 = math.log(10)
RIGHT = WIDTH - GAP - LETTER  # of the plot, with names of one letter


def point(share: float, error: float, name: str = "a") -> Point:
    return Point(name, share * LN_10, LN_10, error, failed=False)


def centres(drawn: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r'<circle[^>]* cx="([^"]*)" cy="([^"]*)"', drawn)]


def test_points_are_at_their_share_of_the_ceiling_and_at_the_logarithm_of_their_error() -> None:
    corners = [point(1, 1.0), point(0.5, 0.1), point(0.25, 0.01), point(-3, 0.0)]
    bottom = TOP + LEAST
    expected = [
        (RIGHT, TOP),
        ((LEFT + RIGHT) / 2, TOP + LEAST / 2),
        (LEFT + (RIGHT - LEFT) / 4, bottom),
        (LEFT, bottom),
    ]
    assert centres(picture(corners)) == [pytest.approx(each, abs=0.06) for each in expected]
    assert ">0.5 %<" not in picture(corners)
    smaller = picture([*corners, point(1, 0.00001)])  # below the lowest tick
    assert ">0.01 %<" in smaller
    assert centres(smaller)[-1] == pytest.approx((RIGHT, bottom), abs=0.06)


def test_a_failed_run_is_a_cross() -> None:
    drawn = picture([replace(point(1, 0.5), failed=True), point(1, 0.02), point(1, 0.01)])
    assert drawn.count("l6 6m0-6l-6 6") == 1
    assert len(centres(drawn)) == 2
    assert "<title>a (failed): L_I 2.303 of 2.303 nats (100.0 %), code error 50.00 %</title>" in drawn
    assert "&#215; failed" in drawn
    assert "failed" not in picture([point(1, 0.02)])


@pytest.mark.parametrize(
    ("wanted", "heights"),
    [
        ([20, 60, 90], [20, 60, 90]),
        ([50, 50, 50], [50 - LINE, 50, 50 + LINE]),
        ([1, 1, 90], [0, LINE, 90]),
        ([98, 99, 100], [100 - 2 * LINE, 100 - LINE, 100]),
    ],
)
def test_names_are_near_their_points_and_a_line_apart(wanted: list[float], heights: list[float]) -> None:
    assert spread(wanted, 0, 100) == pytest.approx(heights)


def test_the_summary_counts_the_runs_whose_bound_is_at_its_maximum() -> None:
    assert Bound((point(1, 0.6), point(0.995, 0.0123), point(0.5, 0.01)), ()).summary == (
        "In 2 of 3 runs L_I is at least 99 % of its maximum, H(c), and the code error is 1.23 % to 60.00 %: the bound can be at its "
        "maximum while images are in the wrong class."
    )
    assert Bound((point(0.5, 0.6),), ()).summary.startswith("No run has")


def sweep(folder: Path, *names: str) -> Path:
    """Runs of code errors 2 %, 4 %, ... with evaluate's JSON beside them."""
    runs = [make_run(folder / name) for name in names]
    rows = [row_of(run, 0.02 * number) for number, run in enumerate(runs, 1)]
    (folder / "evaluation.json").write_text(json.dumps({"runs": rows}))
    return folder


def test_the_numbers_of_the_page_are_those_of_the_json_and_names_are_escaped(tmp_path: Path) -> None:
    folder, out = sweep(tmp_path / "sweep", "a", "<b>&", "c" * 40), tmp_path / "report.html"
    assert main(["report", str(folder), "--out", str(out)]) == 0
    page = out.read_text()
    section = page.partition('<section id="bound"')[2].partition("</section>")[0]
    values = [float(value) for value in re.findall(r'<data value="([^"]*)"', section)]
    assert values == [each for error in (0.06, 0.04, 0.02) for each in (2.125, 2.302585092994046, error)]
    assert "<title>&lt;b&gt;&amp;: L_I 2.125 of 2.303 nats (92.3 %), code error 4.00 %</title>" in section
    assert "<b>" not in section
    (shortened,) = re.findall(r">(c+…c+)</text>", section)
    assert len(shortened) == MOST_LETTERS
    assert main(["report", str(folder / "a"), str(folder / "<b>&"), "--out", str(out)]) == 0
    assert "#bound" not in out.read_text()
    assert 'id="bound"' not in out.read_text()


def test_runs_without_a_point_are_named(tmp_path: Path) -> None:
    folder = sweep(tmp_path, "a", "b", "c")
    learned = make_run(tmp_path / "learned", "latents.prior=learned", "objective.information_trains=trunk")
    diverged = make_run(tmp_path / "diverged")
    (diverged / "FAILED").touch()
    report = json.loads((folder / "evaluation.json").read_text())
    row = row_of(learned, 0.3)
    del row["mutual_information_ceiling"]  # a learned H(c) is not ln K
    report["runs"] += [row, {"checkpoint": str(diverged), "failed": "training failed"}]
    (folder / "evaluation.json").write_text(json.dumps(report))
    runs = read_runs([folder])
    found = bound(runs, read_scores(runs, [])[0])
    assert found is not None
    assert [each.name for each in found.points] == ["c", "b", "a"]
    assert found.without == ("diverged", "learned")


def test_the_picture_is_written_as_a_file_for_light_and_dark(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = sweep(tmp_path / "sweep", "a", "<b>&", "c"), tmp_path / "bound.svg"
    assert main(["report", str(folder), "--out", str(out)]) == 0
    root = ElementTree.fromstring(out.read_text())
    assert "prefers-color-scheme: dark" in "".join(root.itertext())
    assert not re.search(r"url\(|@import|href", out.read_text())
    assert [text.text for text in root.iter() if text.get("class") == "name"] == ["c", "<b>&", "a"]
    capsys.readouterr()
    assert main(["report", str(folder / "a"), "--out", str(tmp_path / "one.svg")]) == 2
    assert "the picture needs 3 runs" in capsys.readouterr().err
    assert not (tmp_path / "one.svg").exists()
