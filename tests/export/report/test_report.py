"""The report as a user meets it: numbers, failures, size, and what it refuses."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from infogan_dist.cli.main import main
from infogan_dist.export.report.page import LIMIT, duration
from infogan_dist.export.report.pictures import pictures
from infogan_dist.export.report.runs import names_of
from infogan_dist.export.report.statistics import mean_interval, proportion_interval
from tests.export.report.conftest import draw, make_run, row_of


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Three seeds of one config, the third failed, with evaluate's JSON beside them."""
    folders = [make_run(tmp_path / "sweep" / f"seed={seed}", f"seed={seed}") for seed in (1, 2, 10)]
    (folders[2] / "DONE").unlink()
    (folders[2] / "FAILED").write_text("loss/D was not finite & <training> diverged")
    rows = [row_of(folders[0], 0.0225), row_of(folders[1], 0.0275)]
    failed = {"checkpoint": str(folders[2]), "failed": f"no checkpoint in {folders[2]} verifies"}
    controls = [{"control": "k-means", "data": "mnist-mini", "code_error": 0.4125}]
    report = {"runs": [*rows, failed], "summary": {}, "controls": controls}
    (tmp_path / "sweep" / "evaluation.json").write_text(json.dumps(report))
    return folders


def write(folder: Path, *arguments: object) -> str:
    """The page that `report` writes."""
    out = folder / "deep" / "report.html"
    assert main(["report", *map(str, arguments), "--out", str(out)]) == 0
    return out.read_text(encoding="utf-8")


class Reader(HTMLParser):
    """The text and data values of each cell of the table of scores."""

    def __init__(self, page: str):
        super().__init__()
        self.rows: list[list[tuple[list[float], str]]] = []
        self.feed(page.partition('<section id="scores"')[2].partition("</section>")[0])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append(([], ""))
        elif tag == "data" and self.rows and self.rows[-1]:
            self.rows[-1][-1][0].append(float(dict(attrs)["value"] or "nan"))

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self.rows.append([])

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            values, text = self.rows[-1][-1]
            self.rows[-1][-1] = (values, f"{text} {' '.join(data.split())}".strip())

    def cells(self, title: str) -> list[tuple[list[float], str]]:
        return next(row[1:] for row in self.rows if row and row[0][1].startswith(title))


def test_numbers_are_those_of_the_json(runs: list[Path], tmp_path: Path) -> None:
    table = Reader(write(tmp_path, runs[0]))
    low, high = proportion_interval(0.0225, 400)
    assert table.cells("Code error") == [([0.0225], f"2.25 % {100 * low:.2f} % to {100 * high:.2f} %")]
    assert table.cells("Mutual information, categorical_0") == [([2.125], "2.125 of 2.303")]
    assert table.cells("Mutual information, continuous_0") == [([-0.25], "-0.250")]
    assert table.cells("Fréchet") == [([12.5], "12.500 floor 0.250")]


def test_several_seeds_have_a_mean_an_interval_and_failures(runs: list[Path], tmp_path: Path) -> None:
    page = write(tmp_path, tmp_path / "sweep")
    table = Reader(page)
    assert [text for _, text in table.rows[0]] == [
        *("Metric", "Mean 3 runs, 1 failed", "seed=1 seed 1", "seed=2 seed 2", "seed=10 seed 10 failed")
    ]
    mean, first, second, third = table.cells("Code error")
    interval = mean_interval([0.0225, 0.0275])
    assert interval is not None
    assert mean[0] == [statistics.fmean([0.0225, 0.0275])]
    assert mean[1] == f"2.50 % {100 * interval[0]:.2f} % to {100 * interval[1]:.2f} % 2 of 3 runs"
    assert [first, second, third] == [([0.0225], "2.25 %"), ([0.0275], "2.75 %"), ([], "–")]  # noqa: RUF001
    assert 'k-means <data value="0.4125">41.25 %</data>' in page


def test_a_failed_run_is_shown_with_its_reason(runs: list[Path], tmp_path: Path) -> None:
    page = write(tmp_path, *runs)
    assert '<span class="state failed">failed</span>' in page
    assert "loss/D was not finite &amp; &lt;training&gt; diverged" in page
    assert "2 done, 1 failed" in page.lower()
    assert page.count("l8 8m0-8l-8 8") == 3  # a cross in each panel
    for name in ("config.yaml", "metrics.jsonl", "timing.jsonl"):
        (runs[2] / name).unlink()
    for file in (runs[2] / "checkpoints").rglob("*.json"):
        file.write_text("{}")
    page = write(tmp_path, *runs)
    assert "no checkpoint in seed=10/checkpoints verifies" in page
    assert str(tmp_path) not in page


def test_every_section_is_there(runs: list[Path], tmp_path: Path) -> None:
    page = write(tmp_path, *runs)
    assert "On 400 test images of mnist-mini; 1,000 images drawn by G (evaluation.json)." in page
    assert "12 min" in page
    assert re.search(r"<li><b>0</b> → 7 <data value=\"0.1\">10.0 %</data></li>", page)
    assert page.count("<img ") == 3 * 3
    assert re.search(r'<th scope="row">seed</th><td>1</td><td>2</td><td>10</td>', page)
    assert "infogan-dist train report.yaml output=runs/seed=2 seed=2" in page
    assert re.search(r"<b>Versions</b>: infogan_dist [\d.]+, torch ", page)


def test_the_page_asks_for_nothing_and_names_no_path_of_this_machine(runs: list[Path], tmp_path: Path) -> None:
    page = write(tmp_path, *runs)
    assert "<script" not in page
    assert not re.search(r"https?:|@import|url\(|<link(?! rel=.icon)", page)
    assert all(source.startswith(("data:image/webp;base64,", "data:,")) for source in re.findall(r'src="([^"]*)', page))
    assert " style=" not in page  # the policy admits the style block alone
    assert str(tmp_path) not in page


def test_large_pictures_are_compressed_until_the_page_fits(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for step in range(3, 9):
        draw(run / "samples" / f"step-{step:08d}.png", 512)
    (run / "samples" / "step-00000009.png").write_bytes(b"no picture")
    assert len(write(tmp_path, run).encode()) < LIMIT
    (found,) = pictures([run])
    assert found.earlier
    assert sum(len(picture.url) for picture in found.earlier) < 1_300_000
    assert [each.newest for each in pictures([run], budget=100)] == [None]


def test_scores_of_training_are_used_where_evaluate_did_not_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"kind": "evaluate", "step": 30, "images_seen": 360, "code_error": 0.125}) + "\n")
    page = write(tmp_path, run)
    assert Reader(page).cells("Code error") == [([0.125], "12.50 %")]
    assert "Evaluations during training" in page
    assert "No run has scores" in write(tmp_path, make_run(tmp_path / "other"))


def wrong(folder: Path, run: Path) -> Iterator[tuple[list[Any], str]]:
    (folder / "list.json").write_text("[1]")
    (folder / "other.json").write_text(json.dumps(row_of(folder / "other", 0.1)))
    yield [folder / "nowhere", "--out", "a.html"], "there is no"
    yield [folder, "--out", "a.html"], "holds no run"
    yield [run, "--out", "a.pdf"], "--out a.pdf does not end in .html"
    yield [run, "--out", run / "checkpoints" / "step-00000002" / "a.html"], "--out"
    yield (
        [run, "--out", "a.html", "--scores", folder / "list.json"],
        "is not what `infogan-dist evaluate --json` writes",
    )
    yield [run, "--out", "a.html", "--scores", folder / "missing.json"], "cannot be read"
    yield [run, "--out", "a.html", "--scores", folder / "other.json"], "has no row of these runs"


def test_what_is_wrong_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    run = make_run(tmp_path / "deep" / "run")
    for arguments, words in wrong(tmp_path, run):
        assert main(["report", *map(str, arguments)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line
        assert list((tmp_path / "here").iterdir()) == []


def test_runs_of_the_same_name_are_named_by_their_folders() -> None:
    assert names_of([Path("/x/a/run"), Path("/x/b/run"), Path("/x/c")]) == ["a/run", "b/run", "c"]
    assert [duration(seconds) for seconds in (42, 700, 12_000)] == ["42 s", "12 min", "3 h 20 min"]


@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_the_screen_in_a_browser(
    chromium: Any, runs: list[Path], tmp_path: Path, width: int, scheme: str
) -> None:
    write(tmp_path, *runs)
    tab = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    asked: list[str] = []
    said: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: said.append(message.text))
    tab.goto((tmp_path / "deep" / "report.html").as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    grounds = {"light": "rgb(246, 246, 243)", "dark": "rgb(19, 20, 23)"}
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == grounds[scheme]
    assert tab.evaluate("[...document.images].every((image) => image.naturalWidth > 0)")
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert said == []
    tab.close()
