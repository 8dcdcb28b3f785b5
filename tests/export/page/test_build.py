"""The page's text, without a browser: what it says of a model, and that nothing but itself can run in it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from infogan_dist.evaluation.code_names import CodeNames
from infogan_dist.export.page.build import packed, page
from infogan_dist.export.page.model import Model
from infogan_dist.export.page.words import words
from infogan_dist.registry.data_sets import DATA_SETS, DataSetRecord
from tests.export.page.conftest import PAPER28, make_run

COLOUR = (
    "data={name: folder, root: x, channels: 3, image_size: 32}",
    "networks={family: dcgan, width: 4}",
    "latents={noise: [{dim: 4, distribution: normal}], categorical: [], continuous: 3}",
)
NAME = "a<!--<script>alert(1)"  # of a run folder; a page that held it as it is would hide what follows


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model.load(make_run(tmp_path_factory.mktemp("build") / NAME, *PAPER28))


def test_its_policy_lets_run_what_is_in_it_and_nothing_else(digits: Model) -> None:
    html = page(digits, packed(digits))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    blocks = re.findall(r"<(script|style)>(.*?)</\1>", html, re.S)
    hashes = {f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for _, text in blocks}
    assert set(re.findall(r"'sha256-[^']*'", policy[1])) == hashes
    assert len(blocks) == 5  # style, scripts, the start, and the weights of G and of Q
    assert policy[1].startswith("default-src 'none'; ")
    assert re.findall(r"(?<=\s)on\w+=|<script[^>]* src|<link rel=.stylesheet", html) == []
    content = re.search(r'<script type="application/json" id="content">(.*?)</script>', html, re.S)
    assert content is not None
    assert json.loads(content[1])["checkpoint"] == NAME
    assert "connect-src 'self'" in page(digits, None)


def test_what_is_known_of_a_run_is_said_and_nothing_else(digits: Model) -> None:
    said = words(digits)
    assert said["invitation"] == "Draw a digit."
    assert said["lead"].startswith("It sorted digits into ten classes by itself. Draw one: ")
    assert "scaled to fit 20" in said["preprocessing"]
    assert said["names"].endswith("nobody has named them.")
    assert "trained on digits of mnist-mini without labels: 72 images seen." in said["facts"]
    assert "Scored" not in said["facts"]
    assert "60,000 digits" in words(replace(digits, images=60_000))["lead"]


def test_the_score_is_of_this_checkpoint_and_names_bring_their_own(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", *PAPER28, "data.held_out=100")
    rows = [
        {"kind": "evaluate", "step": step, "images_seen": 12 * step, "code_error": step / 100} for step in (3, 6, 9)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "6 % of the held-out train images of mnist-mini" in words(Model.load(run))["facts"]
    names = CodeNames(code="categorical_0", labels={"2": 9}, code_error=0.0205, data="fashion-mnist", step=6)
    (run / "code_names.json").write_text(names.model_dump_json())
    named = Model.load(run)
    assert "2.05 % of the test images of fashion-mnist" in words(named)["facts"]
    assert named.class_names() == {2: "Ankle boot"}
    assert "names came afterwards, from labels of fashion-mnist" in words(named)["names"]


def test_images_that_nobody_draws_are_dropped(tmp_path: Path) -> None:
    model = Model.load(make_run(tmp_path / "run", *COLOUR))
    said = words(model)
    assert said["invitation"] == "Drop an image."
    assert said["lead"].startswith("It found three ways in which images differ, by itself. Drop one: ")
    assert said["preprocessing"] == "The square in the middle of an image, scaled to 32 by 32 pixels."
    assert said["names"] == ""
    assert "trained on images without labels" in said["facts"]
    assert "to rounding" in said["sameness"]  # normal noise


def test_a_record_that_can_be_drawn_says_where_its_ink_lies() -> None:
    assert {record.name for record in DATA_SETS.built_in.values() if record.drawn_by_hand} == {
        "mnist-mini",
        "mnist",
        "imbalanced-mnist",
        "kmnist",
    }
    with pytest.raises(ValueError, match="ink_box"):
        DataSetRecord(name="x", open="x:y", drawn_by_hand=True)
