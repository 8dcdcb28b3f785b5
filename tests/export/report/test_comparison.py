"""Groups and differences of configs, and the commands that train the same runs again."""

from __future__ import annotations

import shlex
from pathlib import Path

from infogan_dist.config.reading import dotted, load_config
from infogan_dist.export.report.comparison import PATHS, changes, differences, groups
from infogan_dist.export.report.reproduction import configs_and_commands
from infogan_dist.export.report.runs import read_runs
from tests.conftest import untrained

ELSEWHERE = (
    "latents.continuous=3",
    "optimizer.D.lr=0.001",
    "optimizer.G.lr=0.001",
    "objective.adversarial=relativistic",
)


def make_runs(folder: Path) -> list[Path]:
    return [
        untrained(folder / "a", "seed=1"),
        untrained(folder / "b", "seed=2"),
        untrained(folder / "c", "seed=1", "latents.categorical=[10]"),
        untrained(
            folder / "d", "seed=1", *ELSEWHERE, "sample.every=3", "log.every=2", "train.steps=9", "networks.width=5"
        ),
    ]


def test_runs_that_differ_in_their_seed_are_a_group(tmp_path: Path) -> None:
    runs = read_runs(make_runs(tmp_path)[:3])
    found = groups(runs)
    assert [[run.name for run in group.runs] for group in found] == [["a", "b"], ["c"]]
    assert [group.title for group in found] == ["latents.categorical=[10, 2]", "latents.categorical=[10]"]
    assert [(each.key, each.values) for each in differences(runs)] == [
        ("seed", ("1", "2", "1")),
        ("latents.categorical", ("[10, 2]", "[10, 2]", "[10]")),
    ]
    assert [group.title for group in groups(read_runs(make_runs(tmp_path / "more")))] == ["a and 1 more", "c", "d"]


def test_changes_are_from_the_defaults(tmp_path: Path) -> None:
    config = load_config("debug", ["output=run", "networks.width=5"])
    assert ("networks.width", ("5", "64")) in [(each.key, each.values) for each in changes(config)]


def test_the_commands_reproduce_each_config(tmp_path: Path) -> None:
    runs = read_runs(make_runs(tmp_path))
    files, commands = configs_and_commands(runs)
    assert [file.name for file in files] == [
        "report.yaml",
        "report-2.yaml",
    ]  # d differs in more keys than a command lists
    for file in files:
        assert str(tmp_path) not in file.text
        (tmp_path / file.name).write_text(file.text)
    assert commands[-1] == "infogan-dist evaluate runs/a runs/b runs/c runs/d --json evaluation.json"
    for run, command in zip(runs, commands[:-1], strict=True):
        program, name, file_name, *overrides = shlex.split(command)
        assert (program, name) == ("infogan-dist", "train")
        again, trained = dotted(load_config(tmp_path / file_name, overrides)), dotted(run.config)  # type: ignore[arg-type]
        assert {key for key in trained if again[key] != trained[key]} <= set(PATHS)
        assert again["output"] == f"runs/{run.name}"
