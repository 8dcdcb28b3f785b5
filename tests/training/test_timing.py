from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from infogan_dist.training.loop import train
from infogan_dist.training.progress import Progress, shortened
from infogan_dist.training.timing import RunClock
from tests.conftest import ONE_PROCESS, tiny


def test_clock_adds_earlier_seconds_and_measures_the_rate_since_the_last_row() -> None:
    now = [100.0]
    clock = RunClock(spent=7.0, images_seen=1000, now=lambda: now[0])
    now[0] = 102.0
    assert clock.row(1100) == {"seconds": 9.0, "images_per_second": 50.0}
    now[0] = 106.0
    assert clock.row(1140) == {"seconds": 13.0, "images_per_second": 10.0}


def rows(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "timing.jsonl").read_text().splitlines()]


def test_timing_has_a_row_per_logged_step_and_continues_after_a_resume(tmp_path: Path) -> None:
    decaying = "schedule={kind: linear, images: 72, anneal_from: 0.0, final: 0.0}"
    train(tiny(tmp_path / "run", decaying, "train.steps=4"), ONE_PROCESS)
    first = rows(tmp_path / "run")
    with (tmp_path / "run" / "timing.jsonl").open("a") as file:
        file.write('{"kind": "timing", "step": 9, "images_seen": 108}\n{"torn')
    train(tiny(tmp_path / "run", decaying), ONE_PROCESS)
    both = rows(tmp_path / "run")
    assert [row["step"] for row in both] == [1, 2, 3, 4, 5, 6]
    assert both[:4] == first, "rows up to the checkpoint stay, others are dropped"
    assert all(earlier["seconds"] < later["seconds"] for earlier, later in itertools.pairwise(both))
    assert all(row["images_per_second"] > 0 for row in both)
    assert both[0]["lr/G"] == pytest.approx(1e-3)
    assert both[3]["lr/D"] == pytest.approx(2e-4 * 0.5)
    assert both[3]["lr/Q"] == pytest.approx(1e-3 * 0.5)


def test_metrics_contain_no_times(tmp_path: Path) -> None:
    train(tiny(tmp_path / "run", "train.steps=2"), ONE_PROCESS)
    assert "seconds" not in (tmp_path / "run" / "metrics.jsonl").read_text()


def test_short_names_join_the_codes() -> None:
    metrics = {"loss/D": 1.0, "mi/categorical_0": 2.25, "mi/continuous_0": 0.5, "gradient/D": 3.0}
    assert shortened(metrics) == {"D": "1.00", "I": "2.25/0.50"}


def test_without_a_terminal_each_logged_row_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(0, 10, visible=True)
    progress.advance()
    progress.show(1, {"loss/D": 1.0, "loss/G": 2.0}, images_per_second=1234.0)
    out, err = capsys.readouterr()
    assert out.startswith("step 1/10: D 1.00, G 2.00, 1,234 images/s, ")
    assert out.endswith(" left\n")
    assert err == "", "no bar"
    Progress(0, 10, visible=False).show(1, {"loss/D": 1.0}, 1.0)
    assert capsys.readouterr().out == ""
