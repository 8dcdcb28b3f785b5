"""Choosing a run without labels: known partitions, real runs with labels that raise, and runs that do not fit."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import NoReturn

import pytest
import torch

from infogan_dist.__main__ import main
from infogan_dist.evaluation import labels
from infogan_dist.evaluation.selection import agreement, medoid
from tests.conftest import tiny, untrained

CLASSES = torch.arange(1000)[:, None] % 10
PERMUTED = (CLASSES * 3 + 4) % 10
MERGED = torch.where(CLASSES == 1, 0, torch.where((CLASSES == 2) & (torch.arange(1000)[:, None] % 20 == 2), 1, CLASSES))
"""Classes 0 and 1 in one, and half of class 2 in the class that is free."""
FLIPPED = torch.where(torch.arange(1000)[:, None] < 40, (CLASSES + 1) % 10, CLASSES)


def test_agreement_ignores_the_order_of_classes_and_counts_merged_and_split_ones() -> None:
    assert agreement(CLASSES, PERMUTED) == 1
    assert agreement(CLASSES, MERGED) == agreement(MERGED, PERMUTED) == pytest.approx(0.85)
    assert agreement(CLASSES, FLIPPED) == pytest.approx(0.96)
    assert agreement(CLASSES, torch.zeros_like(CLASSES)) == pytest.approx(0.1)
    two = torch.cat((CLASSES, CLASSES), dim=1)
    assert agreement(two, torch.cat((PERMUTED, MERGED), dim=1)) == pytest.approx(0.925), "the mean over codes"


def test_the_medoid_is_the_run_that_agrees_best_with_the_others() -> None:
    found = medoid(
        [MERGED, FLIPPED, PERMUTED, CLASSES[torch.randperm(1000, generator=torch.Generator().manual_seed(0))]]
    )
    assert found.medoid == 2
    assert found.agreements[2] > found.agreements[1] > found.agreements[0] > found.agreements[3]
    assert medoid([CLASSES, PERMUTED, CLASSES]).medoid == 0, "the first of equals"
    assert medoid([CLASSES, PERMUTED, CLASSES]).agreements == (1, 1, 1)
    assert medoid([FLIPPED, CLASSES, PERMUTED]).agreements == pytest.approx((0.96, 0.98, 0.98))


@pytest.fixture
def seeds(tmp_path: Path) -> list[str]:
    return [str(untrained(tmp_path / f"seed-{seed}", f"seed={seed}")) for seed in (1, 2, 3)]


def test_the_command_reads_no_label(
    seeds: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object) -> NoReturn:
        raise AssertionError("a label was read")

    monkeypatch.setattr(labels, "mnist_mini_labels", read)
    before = sorted(path for run in seeds for path in Path(run).rglob("*"))
    assert main(["select", *seeds]) == 0
    lines = capsys.readouterr().out.splitlines()
    heading, *rows, last = lines[:5]
    assert "10,000 train images, without labels" in heading
    shares = [float(row.split()[1]) for row in rows]
    entropies = [float(row.split()[3]) for row in rows]
    widths = tiny("x").latents.categorical
    highest = sum(map(math.log, widths)) / len(widths)
    assert entropies == pytest.approx([highest] * 3, rel=0.02), "untrained runs are uncertain"
    assert [row.split()[0] for row in rows] == seeds
    assert last == f"selected by classes: {seeds[shares.index(max(shares))]}"
    heading, *rows, last = lines[5:]
    assert "ModelCentrality of the continuous codes" in heading
    assert [row.split()[0] for row in rows] == seeds
    assert all(0 <= float(row.split()[1]) <= 1 for row in rows)
    assert last.startswith("selected by continuous codes: ")
    assert sorted(path for run in seeds for path in Path(run).rglob("*")) == before


def refused(capsys: pytest.CaptureFixture[str], *runs: str) -> str:
    assert main(["select", *runs]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err


def test_runs_that_cannot_be_compared_are_refused_in_one_line(
    seeds: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "at least 3 runs, not 2" in refused(capsys, *seeds[:2])
    codes = str(untrained(tmp_path / "codes", "latents.categorical=[7]"))
    said = refused(capsys, *seeds[:2], codes)
    assert f"{codes} has the codes [7] and 2 continuous, {seeds[0]} [10, 2] and 2 continuous" in said
    data = str(untrained(tmp_path / "data", "data.held_out=100"))
    assert f"{data} was trained on data.held_out = 100, the first run on 0" in refused(capsys, *seeds[:2], data)
    one = "latents={categorical: [], continuous: 1}"
    single = [str(untrained(tmp_path / f"single-{n}", one)) for n in (1, 2, 3)]
    assert "has one continuous code and no other" in refused(capsys, *single)
    assert "there is no nowhere" in refused(capsys, *seeds[:2], "nowhere")


def test_runs_on_other_images_of_the_same_name_are_refused(
    seeds: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (manifest,) = Path(seeds[2]).glob("checkpoints/*/manifest.json")
    values = json.loads(manifest.read_text())
    values["data"] = {"images": 9_000, "checksum": "0" * 16, "thumbnails": ""}
    values.pop("sha256", None)
    manifest.write_text(json.dumps(values))
    assert f"{seeds[2]} was trained on other images than {seeds[0]}: 9,000 images then" in refused(capsys, *seeds)
