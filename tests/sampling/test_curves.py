from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from infogan_dist.config.schema import Config
from infogan_dist.sampling.curves import RunCurves, panels_of, smoothed, write_curves, write_runs
from tests.conftest import tiny

CLUSTERING = (
    "objective={information_trains: trunk, lambda_clustering: 1, clustering_from: 0.25, clustering_in_full: 0.5}",
    "schedule.kind=linear",
)


def rows(steps: int, *, clustering: bool = False, error: float | None = None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {
            **{"kind": "train", "step": step, "images_seen": 12 * step, "loss/D": 1.4, "loss/G": 0.7, "loss/info": 2.0},
            **{
                "score/real": 0.5,
                "score/fake_before_G": 0.5,
                "score/fake_after_G": None,
                "mi/categorical_0": 0.1 * step,
            },
            **({"loss/clustering": -2.0} if clustering else {}),
        }
        for step in range(1, steps + 1)
    ]
    if error is not None:
        found.append({"kind": "evaluate", "step": steps, "images_seen": 12 * steps, "code_error": error})
    return found


def config(*overrides: str) -> Config:
    return tiny("run", "latents={categorical: [10], continuous: 0}", *overrides)


def test_panels_are_of_what_was_logged() -> None:
    assert [panel.title for panel in panels_of([RunCurves("a", [])])] == [
        *("Losses", "Discriminator's score", "Mutual information lower bound"),
    ]
    runs = [RunCurves("a", rows(3, clustering=True, error=0.1), config(*CLUSTERING))]
    assert [panel.title for panel in panels_of(runs)][3:] == ["Clustering of real images", "Code error"]


def test_ceilings_and_chance_are_the_known_ones() -> None:
    run = RunCurves("a", rows(3, clustering=True, error=0.1), config(*CLUSTERING))
    losses, scores, information, clustering, error = (panel.references for panel in panels_of([run]))
    assert losses == {"D at chance, 2 ln 2": 2 * math.log(2), "G at chance, ln 2": math.log(2)}
    assert scores == {"chance": 0.5}
    assert information == {"ceiling, ln 10": math.log(10)}
    assert clustering == {"least possible": pytest.approx(-math.log(10))}  # all 10 classes alike, and every pair in one
    assert error == {"chance of 10 classes": 0.9}
    relativistic = RunCurves("b", rows(3), config("objective.adversarial=relativistic"))
    assert next(panels_of([relativistic])).references == {"at chance, ln 2": math.log(2)}
    assert next(panels_of([run, relativistic])).references == {}
    hinge = RunCurves("c", rows(3), config("objective.adversarial=hinge"))
    assert (next(panels_of([hinge])).references, next(panels_of([hinge])).unit) == ({}, "")


def test_the_ceiling_of_a_learned_prior_is_a_line_and_no_reference() -> None:
    learned = tiny(
        "run", "latents={categorical: [10], continuous: 0, prior: learned}", "objective.information_trains=trunk"
    )
    logged = [row | {"health/prior_entropy/categorical_0": 2.0} for row in rows(3)]
    information = list(panels_of([RunCurves("a", logged, learned)]))[2]
    assert information.references == {}
    assert information.lines == {
        "mi/categorical_0": "categorical_0",
        "health/prior_entropy/categorical_0": "ceiling of categorical_0",
    }


def test_smoothing_keeps_level_and_line_and_leaves_gaps() -> None:
    line = np.arange(100, dtype=float)
    assert np.allclose(smoothed(line), line)
    noisy = line + np.where(np.arange(100) % 2, 5.0, -5.0)
    assert np.abs(np.diff(smoothed(noisy))).max() < 8 < np.abs(np.diff(noisy)).max()
    line[[0, 50]] = math.nan, math.inf
    assert np.isnan(smoothed(line)[[0, 50]]).all()
    assert np.isfinite(smoothed(line)[[1, 49, 51]]).all()


@pytest.mark.parametrize("ending", ["svg", "pdf", "png"])
def test_each_format_holds_all_and_is_the_same_for_the_same_rows(tmp_path: Path, ending: str) -> None:
    runs = [RunCurves(name, rows(30, error=0.02), config(*CLUSTERING)) for name in ("seed-1", "seed-2")]
    for name in ("a", "b"):
        write_runs(runs, tmp_path / f"{name}.{ending}")
    content = (tmp_path / f"a.{ending}").read_bytes()
    assert content == (tmp_path / f"b.{ending}").read_bytes()
    assert content[:5] in (b"<?xml", b"%PDF-", b"\x89PNG\r")


def test_words_stand_in_the_svg(tmp_path: Path) -> None:
    path = tmp_path / "curves.svg"
    runs = [RunCurves(name, rows(30, clustering=True, error=0.02), config(*CLUSTERING)) for name in ("one", "two")]
    write_runs(runs, path)
    words = path.read_text()  # matplotlib writes each text as a comment before its glyphs
    for word in (
        "discriminator",
        "images seen",
        "step",
        "clustering starts",
        "annealing begins",
        "two, code error 2 %",
    ):
        assert f"<!-- {word} -->" in words, word
    write_runs([RunCurves("one", rows(30, clustering=True))], path)  # of an unknown config
    assert "clustering starts" not in path.read_text()


def test_runs_with_other_batches_have_no_common_steps(tmp_path: Path) -> None:
    other = [row | {"images_seen": 96 * row["step"]} for row in rows(5)]
    write_runs([RunCurves("one", rows(5)), RunCurves("two", other)], tmp_path / "curves.svg")
    assert "<!-- step -->" not in (tmp_path / "curves.svg").read_text()


def test_the_legend_of_many_codes_is_short(tmp_path: Path) -> None:
    many = [row | {f"mi/continuous_{n}": 0.1 for n in range(40)} for row in rows(3)]
    write_curves(many, tmp_path / "curves.svg")
    words = (tmp_path / "curves.svg").read_text()
    assert ", and 33 more -->" in words
    assert "<!-- continuous_39 -->" not in words


def test_the_picture_of_a_run_without_rows_or_with_nothing_finite(tmp_path: Path) -> None:
    write_curves([], tmp_path / "empty.png")
    odd = [row | {"loss/D": None, "mi/categorical_0": 1e30} for row in rows(30)]
    write_curves(odd, tmp_path / "odd.png", config())
    assert Image.open(tmp_path / "odd.png").size == Image.open(tmp_path / "empty.png").size
