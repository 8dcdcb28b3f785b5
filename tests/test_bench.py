from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Command, refused

TINY = ("debug", "networks.width=4", "train.precision=fp64", "train.threads=1")


def test_one_process_foresees_what_two_reduce(infogan: Command, tmp_path: Path) -> None:
    figures = {}
    for processes in (1, 2):
        out = tmp_path / f"{processes}.json"
        link = ["--bandwidth", 10, "--latency", 20] if processes == 1 else []
        result = infogan("bench", *TINY, "--json", out, "--project", 4, *link, processes=processes)
        assert result.returncode == 0, result.stderr
        assert "images/s" in result.stdout
        figures[processes] = json.loads(out.read_text())
    one, two = figures[1], figures[2]
    assert one["reduce_calls"] == two["reduce_calls"]
    assert {key: size * (2 if key == "batch norm" else 1) for key, size in one["reduced_bytes"].items()} == two[
        "reduced_bytes"
    ]
    for figure in (one, two):
        assert figure["images_per_second"] == pytest.approx(figure["global_batch"] / figure["seconds"])
        assert figure["projection"]["seconds"] > figure["seconds_without_reductions"]
        assert figure["spread"] >= 0
    assert (one["processes"], two["processes"], one["threads"], one["device"]) == (1, 2, 1, "cpu")
    assert two["scaling"] > 0
    assert "scaling" not in one
    assert "error_here" in two["projection"]
    assert "error_here" not in one["projection"]
    assert {path.name for path in tmp_path.iterdir()} == {"1.json", "2.json"}, "no run folder"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--project", "4"], ["--bandwidth", "--latency"]),
        (["--json", "/proc/x.json"], ["--json /proc/x.json cannot be written"]),
        (["--bandwidth", "4"], ["both or neither"]),
        (["--bandwidth", "4", "--latency", "1"], ["--project N"]),
        (["--project", "4", "--bandwidth", "-1", "--latency", "1"], ["-1 is not a positive number"]),
    ],
)
def test_what_could_not_be_used_is_refused(infogan: Command, arguments: list[str], words: list[str]) -> None:
    refused(infogan("bench", *TINY, *arguments), *words)
