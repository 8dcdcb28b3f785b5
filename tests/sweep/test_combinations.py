from __future__ import annotations

from pathlib import Path

import pytest

from infogan_dist.config.reading import load_config
from infogan_dist.errors import UserError
from infogan_dist.sweep.combinations import NAME_LIMIT, combinations, folder_name


def test_every_combination_is_a_run_and_the_last_key_varies_fastest() -> None:
    runs = combinations(["seed=1,2", "train.steps=6", "latents.continuous=0,1"], Path("out"))
    assert [run.name for run in runs] == [
        "seed=1,latents.continuous=0",
        "seed=1,latents.continuous=1",
        "seed=2,latents.continuous=0",
        "seed=2,latents.continuous=1",
    ]
    assert runs[1].overrides == (
        *("seed=1", "train.steps=6", "latents.continuous=1"),
        "output=out/seed=1,latents.continuous=1",
    )


def test_values_are_split_at_top_level_commas_only() -> None:
    runs = combinations(["latents.categorical=[10],[5,2]", 'data.root="a,b",c'], Path("out"))
    assert [run.overrides[:2] for run in runs] == [
        ("latents.categorical=[10]", 'data.root="a,b"'),
        ("latents.categorical=[10]", "data.root=c"),
        ("latents.categorical=[5,2]", 'data.root="a,b"'),
        ("latents.categorical=[5,2]", "data.root=c"),
    ]
    noise = "latents.noise=[{dim: 4, distribution: normal}],[{dim: 8, distribution: uniform}]"
    assert [load_config("debug", run.overrides).latents.noise[0].dim for run in combinations([noise], Path("o"))] == [
        4,
        8,
    ]


@pytest.mark.parametrize("folder", ["runs", "a: b", "it's # one", "1e3", "[x]", "no", "ü/ö"])
def test_the_output_of_a_run_is_read_back_as_it_is(folder: str) -> None:
    (run, _) = combinations(["seed=1,2"], Path(folder))
    assert load_config("debug", run.overrides).output == f"{folder}/seed=1"


def test_folder_names_are_escaped_and_short() -> None:
    runs = combinations(["data.root=/a/b,..,c d"], Path("out"))
    assert [run.name for run in runs] == ["data.root=%2Fa%2Fb", "data.root=..", "data.root=c%20d"]
    assert {run.output.parent for run in runs} == {Path("out")}
    long = [folder_name({"data.root": "x" * 300 + end}) for end in "ab"]
    assert len(set(long)) == 2
    assert {len(name) for name in long} == {NAME_LIMIT}


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["seed"], "not of the form"),
        (["seed=1"], "nothing to sweep"),
        (["seed=1,2", "seed=3"], "given twice"),
        (["seed=1,2,1"], "lists 1 twice"),
        (["output=a,b"], "--output DIR"),
        (["latents.categorical=[10,[5"], "not valid YAML"),
        (["seed=1,2],[3"], "not valid YAML"),
    ],
)
def test_a_wrong_list_is_refused(overrides: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words.replace("[", r"\[")):
        combinations(overrides, Path("out"))
