"""sample, traverse, encode, edit and curves as a user calls them, on a run that was never trained."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from infogan_dist import Generator
from infogan_dist.__main__ import main
from infogan_dist.data import mnist_mini
from infogan_dist.sampling.grids import to_uint8
from tests.conftest import Command, untrained

Call = Callable[[str], int]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    latents = "latents={noise: [{dim: 8}], categorical: [10], continuous: 2}"
    return untrained(tmp_path_factory.mktemp("drawing") / "a run", latents)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of ten test digits."""
    folder = tmp_path_factory.mktemp("digits")
    for number, image in enumerate(mnist_mini.load("test")[0][:10]):
        Image.fromarray(image).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def call(run: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run one command in an empty folder; RUN, DIGITS and DIGIT stand for paths."""
    monkeypatch.chdir(tmp_path)
    paths = {"RUN": str(run), "DIGITS": str(digits), "DIGIT": str(digits / "3.png")}
    return lambda command: main([paths.get(word, word) for word in command.split()])


def pixels(path: str | Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_bare_images_of_a_picture_are_those_of_the_generator(call: Call, run: Path) -> None:
    assert call("sample RUN --out a.png --count 6 --plain --seed 3 --set categorical_0=1,2") == 0
    images = to_uint8(Generator.from_pretrained(run).sample(6, seed=3, categorical_0=[1, 2, 1, 2, 1, 2]))[:, 0].numpy()
    rows = np.concatenate([np.concatenate(list(images[start : start + 3]), axis=1) for start in (0, 3)])
    assert np.array_equal(pixels("a.png"), rows)
    assert call("sample RUN --out large.png --count 6 --plain --seed 3 --set categorical_0=1,2 --scale 3") == 0
    assert np.array_equal(pixels("large.png")[::3, ::3], rows)


def test_seeds_are_files_named_by_their_seed(call: Call) -> None:
    assert call("sample RUN --out seeds --seeds 0,12-13") == 0
    assert sorted(path.name for path in Path("seeds").iterdir()) == ["seed0000.png", "seed0012.png", "seed0013.png"]
    assert call("sample RUN --out one.png --seed 12 --count 1 --plain") == 0
    difference = pixels("seeds/seed0012.png").astype(int) - pixels("one.png")
    assert abs(difference).max() <= 1  # drawn at another place of a batch: equal to rounding
    assert call("sample RUN --out numbered --count 2") == 0
    assert sorted(path.name for path in Path("numbered").iterdir()) == ["00000.png", "00001.png"]


def test_pictures_for_people_sort_by_class_and_name_it(call: Call) -> None:
    assert call("sample RUN --out people.png --count 12 --set categorical_0=7,1,4 --scale 1") == 0
    assert call("sample RUN --out bare.png --count 12 --set categorical_0=7,1,4 --plain --grid 12x1") == 0
    people, bare = pixels("people.png"), pixels("bare.png").reshape(28, 12, 28).transpose(1, 0, 2)
    windows = np.lib.stride_tricks.sliding_window_view(people, (28, 28))
    places = []
    for image in bare:
        found = np.argwhere((windows[:, :, 0, 0] == image[0, 0]) & (windows[:, :, 14, 14] == image[14, 14]))
        exact = [(int(y), int(x)) for y, x in found if np.array_equal(windows[y, x], image)]
        assert len(exact) == 1
        places += exact
    by_place = sorted(range(12), key=places.__getitem__)
    assert by_place == [1, 4, 7, 10, 2, 5, 8, 11, 0, 3, 6, 9]  # the classes 1, 4 and 7
    assert len({y for y, _ in places}) == 3  # a row each
    beside = people[:, : min(x for _, x in places)]
    assert (beside < 100).any()


def test_a_grid_has_the_columns_and_rows_that_are_asked_for(call: Call) -> None:
    assert call("sample RUN --out a.png --grid 4x2 --plain") == 0
    assert pixels("a.png").shape == (2 * 28, 4 * 28)
    assert call("sample RUN --out b.png --grid 4x2 --seeds 3-9 --plain") == 0
    assert pixels("b.png").shape == (2 * 28, 4 * 28)
    assert call("sample RUN --out c.jpg --grid 4x2") == 0
    assert Image.open("c.jpg").format == "JPEG"


def test_a_value_that_training_never_saw_is_drawn_and_warned_of(call: Call, caplog: pytest.LogCaptureFixture) -> None:
    assert call("sample RUN --out a.png --count 1 --set continuous_0=5") == 0
    assert "continuous_0 = 5, but training saw -1 to 1" in caplog.text
    caplog.clear()
    assert call("traverse RUN --out b.png --code continuous_1 --range -2 1") == 0
    assert "continuous_1 = -2, but training saw -1 to 1" in caplog.text
    caplog.clear()
    assert call("sample RUN --out c.png --count 1 --set continuous_0=-1 categorical_0=9") == 0
    assert caplog.text == ""


def test_the_first_frame_of_a_traversal_is_the_sample_with_the_code_held(call: Call) -> None:
    for out in ("t.png", "t.apng", "t.webp", "t.gif"):
        assert call(f"traverse RUN --out {out} --code continuous_0 --seed 4 --plain --frames 5") == 0
    assert call("sample RUN --out s.png --count 1 --seed 4 --set continuous_0=-1 --plain") == 0
    assert call("sample RUN --out e.png --count 1 --seed 4 --set continuous_0=1 --plain") == 0
    first, last = pixels("s.png"), pixels("e.png")
    assert pixels("t.png").shape == (28, 5 * 28)
    assert np.array_equal(pixels("t.png")[:, :28], first)
    assert abs(pixels("t.png")[:, -28:].astype(int) - last).max() <= 1
    for out in ("t.apng", "t.webp", "t.gif"):
        with Image.open(out) as moving:
            assert moving.n_frames <= 5  # equal frames are merged
            assert np.array_equal(np.asarray(moving.convert("L")), first)


def test_traversals_of_two_codes_of_all_and_between_seeds(call: Call) -> None:
    assert call("traverse RUN --out two.png --code categorical_0 --code continuous_1 --plain --frames 4") == 0
    assert pixels("two.png").shape == (10 * 28, 4 * 28)
    assert call("traverse RUN --out all.png --plain") == 0
    assert pixels("all.png").shape == (3 * 28, 10 * 28)
    assert call("traverse RUN --out seeds.png --seeds 0,5 --set categorical_0=3 --plain --frames 3") == 0
    assert call("sample RUN --out s.png --count 1 --set categorical_0=3 --plain") == 0
    assert np.array_equal(pixels("seeds.png")[:, :28], pixels("s.png"))
    assert call("traverse RUN --out people.gif --frames 12") == 0
    with Image.open("people.gif") as moving:
        assert moving.n_frames == 12  # the captions differ
        assert moving.width > 3 * 28


def test_the_curves_of_runs(call: Call, run: Path) -> None:
    shutil.copytree(run, "other")
    for ending in ("svg", "pdf", "png"):
        assert call(f"curves RUN other --out deep/curves.{ending}") == 0
    assert "<!-- a run -->" in Path("deep/curves.svg").read_text()


def test_the_codes_of_own_images(call: Call) -> None:
    assert call("encode RUN --images DIGITS --out codes.csv --sheet sheet.png") == 0
    with open("codes.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [f"{number}.png" for number in range(10)]
    assert list(rows[0])[1:] == ["categorical_0", "categorical_0_probability", "continuous_0", "continuous_1"]
    assert pixels("sheet.png").shape[0] > 10 * 84


def test_classes_are_called_by_their_names_where_these_are_known(call: Call, run: Path) -> None:
    shutil.copytree(run, "named")
    names = {"code": "categorical_0", "labels": {str(k): 9 - k for k in range(10)}, "code_error": 0.1}
    Path("named/code_names.json").write_text(json.dumps({**names, "data": "mnist-mini", "step": 2}))
    assert call("encode named --images DIGITS --out codes.csv") == 0
    with open("codes.csv", encoding="utf-8", newline="") as file:
        assert all(
            row["categorical_0_name"] == f"digit {9 - int(row['categorical_0'])}" for row in csv.DictReader(file)
        )
    assert call("sample named --out a.png --count 2 --digit 9") == 0
    assert call("sample named --out b.png --count 2 --set categorical_0=0") == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


def test_several_processes_draw_and_encode_as_one(infogan: Command, run: Path, digits: Path, tmp_path: Path) -> None:
    written = {}
    for processes in (1, 2):
        out = tmp_path / str(processes)
        result = infogan(
            *(
                "encode",
                run,
                "--images",
                digits,
                "--out",
                f"{processes}/codes.csv",
                "--sheet",
                f"{processes}/sheet.png",
            ),
            processes=processes,
        )
        assert result.returncode == 0, result.stderr
        written[processes] = [(out / name).read_bytes() for name in ("codes.csv", "sheet.png")]
    assert written[1] == written[2]


def test_an_edit_is_a_strip_and_the_same_each_time(call: Call, digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infogan_dist.sampling.edit.STEPS", 20)
    for out in ("a.png", "b.png"):
        assert call(f"edit RUN --image DIGIT --set categorical_0=3 --out {out} --plain") == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    assert pixels("a.png").shape == (28, 3 * 28)
    assert np.array_equal(pixels("a.png")[:, :28], pixels(digits / "3.png"))
    assert call("edit RUN --image DIGIT --set continuous_0=1 --out people.png") == 0
    assert pixels("people.png").shape[0] > 28


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("sample RUN --out a.png --seeds 0,1 --count 2", "drop --count"),
        ("sample RUN --out a.png --seeds 0,1 --seed 2", "not allowed with argument"),
        ("sample RUN --out a.png --seeds 4-2", "'4-2' is not a seed"),
        ("sample RUN --out a.png --seeds x", "'x' is not a seed"),
        ("sample RUN --out a.png --seeds 0-99999999999", "more than 10000 seeds"),
        ("sample RUN --out a.png --grid 4y2", "4y2 is not COLUMNSxROWS"),
        ("sample RUN --out a.png --grid 4x2 --count 9", "has no room for 9 images"),
        ("sample RUN --out folder --grid 4x2", "--grid is for pictures"),
        ("sample RUN --out a.npz --scale 2", "--scale enlarges"),
        ("sample RUN --out a.png --count 10001", "too large to look at"),
        ("sample RUN --out a.png --set categorical_0=1,", "CODE=NUMBER"),
        ("sample RUN --out a.png --set categorical_0=1,12", "0 to 9, not 12"),
        ("sample RUN --out a.png --digit 3", "--name-codes"),
        ("traverse RUN --out a.bmp", "does not end in"),
        ("traverse RUN --out a.png --code slant", "there is no code slant"),
        ("traverse RUN --out a.png --code continuous_0 --code continuous_0", "at most twice"),
        ("traverse RUN --out a.png --seeds 0,1 --code continuous_0 --code categorical_0", "once beside --seeds"),
        ("traverse RUN --out a.png --seeds 3", "such as --seeds 0,1"),
        ("traverse RUN --out a.png --code continuous_0 --set continuous_0=1", "drop one of them"),
        ("traverse RUN --out a.png --set categorical_0=1,2", "takes one value here"),
        ("traverse RUN --out a.png --code categorical_0 --range 0 1", "--range is for continuous"),
        ("traverse RUN --out a.png --code continuous_0 --range 0 nan", "two finite numbers"),
        ("traverse RUN --out a.gif --code categorical_0 --frames 3", "--frames is for continuous"),
        ("curves RUN --out a.jpg", "does not end in .svg or .pdf or .png"),
        ("curves nowhere --out a.png", "there is no run folder nowhere"),
        ("curves . --out a.png", "no rows of training"),
        ("encode RUN --images nowhere --out a.csv", "--images nowhere is not a folder"),
        ("encode RUN --images . --out a.txt", "does not end in .csv"),
        ("encode RUN --images . --out a.csv --sheet a.txt", "--sheet a.txt"),
        ("edit RUN --image nowhere.png --set categorical_0=1 --out a.png", "there is no image nowhere.png"),
        ("edit RUN --image DIGIT --out a.png", "give the code to change"),
        ("edit RUN --image DIGIT --set digit=1 --out a.png", "there is no code digit"),
        ("edit RUN --image DIGIT --set categorical_0=1,2 --out a.png", "takes one value"),
    ],
)
def test_what_is_wrong_is_one_line_and_leaves_nothing(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, words: str
) -> None:
    assert call(command) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert words in lines[0], lines[0]
    assert list(tmp_path.iterdir()) == []
