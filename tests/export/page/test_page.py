"""The page in Chromium, from file://: it draws what Python draws, follows its reader, and asks nobody for anything."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from infogan_dist.export.page.build import packed, page
from infogan_dist.export.page.model import Model
from infogan_dist.sampling.generator import Generator
from infogan_dist.sampling.grids import to_uint8
from tests.export.page.conftest import PAPER28, Visit, make_run

Open = Callable[..., Visit]
SEEDS = 50
COLOUR = (
    "data={name: folder, root: x, channels: 3, image_size: 32}",
    "networks={family: dcgan, width: 4, norm_D: spectral}",
    "latents={noise: [{dim: 5}, {dim: 4, distribution: normal}], categorical: [4, 3], continuous: 1}",
)
PLAIN = (
    "networks={width: 8, norm_G: none, norm_D: none}",
    "latents={noise: [{dim: 30}], categorical: [], continuous: 2}",
)
CASES = {"grey": PAPER28, "colour": COLOUR, "no norm, no class": PLAIN}


def written(run: Path) -> Path:
    model = Model.load(run)
    path = run / "page.html"
    path.write_text(page(model, packed(model)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return {name: make_run(folder / name.replace(",", ""), *overrides) for name, overrides in CASES.items()}


@pytest.fixture(scope="module")
def pages(runs: dict[str, Path]) -> dict[str, Path]:
    return {name: written(run) for name, run in runs.items()}


@pytest.mark.parametrize("case", CASES)
def test_the_same_seed_is_the_same_image_as_in_python(
    case: str, runs: dict[str, Path], pages: dict[str, Path], visit: Open
) -> None:
    G, Q = Generator.from_pretrained(runs[case]), Model.load(runs[case]).networks
    here = visit(pages[case])
    there = here.js(
        """async (seeds) => {
        const found = Array.from({length: seeds}, (_, seed) => latentsAt(page.spec, seed, seed % 3));
        const drawn = await page.compute.run("G", found.map((latents) => latentVector(page.spec, latents)));
        const read = await page.compute.run("Q", drawn.outputs);
        const list = (outputs) => outputs.map((output) => Array.from(output));
        return {latents: found.map(({noise, categorical, continuous}) => [[...noise], categorical, [...continuous]]),
                pixels: list(drawn.outputs).map((image) => image.map(level)), read: list(read.outputs)};
        }""",
        SEEDS,
    )
    for seed in range(SEEDS):
        latents = G.latents_at(torch.tensor([seed % 3]), seed)
        noise, classes, continuous = there["latents"][seed]
        normal = next((i for i, source in enumerate(G.spec.noise) if source.distribution == "normal"), None)
        exact = sum(source.dim for source in G.spec.noise[:normal]) if normal is not None else G.spec.noise_dim
        assert torch.equal(torch.tensor(noise[:exact]), latents.noise[0, :exact])
        torch.testing.assert_close(torch.tensor(noise), latents.noise[0], atol=1e-6, rtol=0)
        assert classes == latents.codes.categorical[0].tolist()
        assert continuous == latents.codes.continuous[0].tolist()
        images = G.draw(latents)
        expected = to_uint8(images)[0].permute(1, 2, 0).flatten().int()
        assert expected.float().std() > 20
        assert (torch.tensor(there["pixels"][seed]) - expected).abs().max() <= 1
        with torch.no_grad():
            read = Q["Q"](Q["FE"](images))[0]
        torch.testing.assert_close(torch.tensor(there["read"][seed]), read, atol=0.02, rtol=0.01)


def test_its_command_draws_the_picture(runs: dict[str, Path], pages: dict[str, Path], visit: Open) -> None:
    here = visit(pages["grey"])
    here.tab.get_by_label("Seed of z").fill("1234")
    here.tab.get_by_label("Seed of z").press("Enter")
    here.js("page.slide(1, 0.25)")
    here.idle()
    command = here.tab.locator("#command").text_content()
    said = re.fullmatch(r"infogan-dist sample grey --count 1 --seed 1234 --set (.*) --out picture.png", command)
    assert said is not None
    codes = {name: float(value) for name, value in (part.split("=") for part in said[1].split())}
    assert codes["continuous_1"] == 0.25
    image = to_uint8(Generator.from_pretrained(runs["grey"]).sample(1, seed=1234, **codes))[0, 0].flatten().int()
    assert (torch.tensor(here.pixels("picture")[::4]) - image).abs().max() <= 1


def test_it_asks_nobody_and_says_nothing_whatever_is_done(pages: dict[str, Path], tmp_path: Path, visit: Open) -> None:
    here = visit(pages["grey"], accept_downloads=True)
    policy = here.tab.locator("meta[http-equiv]").get_attribute("content")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "connect-src" not in policy
    Image.new("L", (40, 40), 200).save(tmp_path / "blank.png")
    here.draw(3)
    for button in ("Another z", "Copy link", "Clear"):
        here.tab.get_by_role("button", name=button).click()
    here.draw(1)
    here.tab.get_by_role("button", name="Undo").click()
    here.tab.get_by_label(re.compile("continuous_0")).press("ArrowRight")
    here.tab.locator("#sheet").click(position={"x": 5, "y": 5})
    here.tab.locator(".strip").first.click()
    here.open(tmp_path / "blank.png")
    here.idle()
    for button, name in ((0, "seed-"), (1, "every-class.png")):
        with here.tab.expect_download() as download:
            here.tab.get_by_role("button", name="Save PNG").nth(button).click()
        assert download.value.suggested_filename.startswith(name)
    assert here.messages == []
    assert [url for url in here.requests if not url.startswith(("file:", "blob:", "data:"))] == []


def test_a_slider_a_class_and_another_z_change_the_picture(pages: dict[str, Path], visit: Open) -> None:
    here = visit(pages["grey"])
    here.js("Math.random = () => 0.123")  # Another z is seed 1230, the first column of the sheet
    before = here.shown("picture")
    for change in (
        lambda: here.tab.get_by_label(re.compile("continuous_0")).press("ArrowLeft"),
        lambda: here.tab.locator(".card:not(:has(:checked))").first.click(),
        lambda: here.tab.get_by_role("button", name="Another z").click(),
        lambda: here.tab.locator(".strip").nth(1).click(position={"x": 3, "y": 3}),
        lambda: here.tab.locator("#sheet").click(position={"x": 300, "y": 3}),
    ):
        change()
        here.idle()
        after = here.shown("picture")
        assert after != before
        before = after
    assert here.js("page.continuous[1]") == -1  # the strip's first frame
    assert 1230 < here.js("page.seed") < 1240  # another column of the sheet


def test_a_link_restores_drawing_codes_and_pictures(pages: dict[str, Path], visit: Open) -> None:
    here = visit(pages["grey"])
    here.draw(4)
    here.idle()
    here.tab.locator(".card").first.click()
    here.js("page.slide(0, -0.37)")
    here.idle()
    link = here.js("location.href")
    again = visit(link)
    for canvas in ("picture", "seen", "sheet", "board"):
        assert again.shown(canvas) == here.shown(canvas)
    assert again.verdict() == here.verdict()
    assert again.js("location.href") == link
    again.js("location.hash = '#seed=7&categorical_0=3'")  # a link that is opened in the same tab
    again.idle()
    assert again.js("[page.seed, page.categorical[0], page.board.strokes.length]") == [7, 3, 0]


def test_what_a_link_says_wrongly_is_left_out(pages: dict[str, Path], visit: Open) -> None:
    here = visit(pages["grey"])
    state = "[page.seed, page.categorical, page.continuous]"
    before = here.js(state)
    for said in ("seed=-1", "seed=1e9", "categorical_0=10", "continuous_0=2", "ink=!!", "ink=A", "x=%ff"):
        here.js("(said) => { location.hash = said; }", said)
        here.idle()
        assert here.js(state) == before, said
        assert here.verdict() == "nothing yet"
    assert here.messages == []


def test_drawing_is_read_and_redrawn_as_every_class(pages: dict[str, Path], visit: Open) -> None:
    here = visit(pages["grey"])
    assert here.verdict() == "nothing yet"
    assert here.tab.get_by_role("button", name="Undo").is_disabled()
    here.draw_by_mouse(8)
    shares = here.js("page.reading.probabilities[0]")
    assert sum(shares) == pytest.approx(1)
    assert here.js("page.categorical[0]") == int(np.argmax(shares))
    assert here.verdict().startswith(f"class {int(np.argmax(shares))}")
    assert here.tab.get_by_role("radio").count() == 10
    assert "100 seeds" in here.tab.locator("#matched").inner_text()
    seen = np.array(here.pixels("seen"), dtype=float)[::4].reshape(28, 28)
    rows, columns = np.nonzero(seen > 25)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 in (20, 21)  # MNIST's box, between whole pixels
    mass = [(seen.sum(1 - axis) * np.arange(28)).sum() / seen.sum() for axis in (0, 1)]
    assert mass == pytest.approx([14, 14], abs=0.1)  # and its centre
    here.tab.get_by_role("button", name="Clear").click()
    here.idle()
    assert here.verdict() == "nothing yet"
    assert max(np.array(here.pixels("seen"))[::4]) == 0


def test_the_keyboard_draws(pages: dict[str, Path], visit: Open) -> None:
    here = visit(pages["grey"])
    here.tab.get_by_role("application").focus()
    for key in (" ", *["ArrowDown"] * 8, *["ArrowRight"] * 4, " ", "ArrowUp"):
        here.tab.keyboard.press(key)
    here.idle()
    (stroke,) = here.js("page.board.strokes")
    assert len(stroke) == 13
    assert here.verdict() != "nothing yet"


def test_the_saved_png_has_the_pictures_pixels(pages: dict[str, Path], visit: Open) -> None:
    here = visit(pages["colour"], accept_downloads=True)
    with here.tab.expect_download() as download:
        here.tab.get_by_role("button", name="Save PNG").first.click()
    saved = np.asarray(Image.open(download.value.path()).convert("RGBA"))
    assert saved.shape == (256, 256, 4)
    assert saved[::8, ::8].flatten().tolist() == here.pixels("picture")


def test_names_came_afterwards_and_stand_in_their_order(tmp_path: Path, visit: Open) -> None:
    run = make_run(tmp_path / "run", *PAPER28)
    labels = {str(k): (k + 3) % 10 for k in range(9)}  # class 9 has no name
    names = {"code": "categorical_0", "labels": labels, "code_error": 0.0123, "data": "mnist-mini", "step": 6}
    (run / "code_names.json").write_text(json.dumps(names))
    here = visit(written(run))
    assert here.tab.locator(".card .name").all_inner_texts() == [*"013456789", "class 9"]
    assert "the names came afterwards" in here.tab.locator("#names").inner_text()
    assert "1.23 % of the test images of mnist-mini" in here.tab.locator("footer").inner_text()
    here.tab.locator(".card").first.click()
    here.idle()
    assert here.js("page.categorical[0]") == 7  # whose name is 0


def test_several_codes_each_have_a_picker(pages: dict[str, Path], visit: Open) -> None:
    here = visit(pages["colour"])
    assert here.tab.locator("h1").inner_text() == "Drop an image. This network never saw a label."
    assert here.tab.locator(".card").count() == 4
    before = here.shown("picture")
    here.tab.get_by_label("categorical_1").select_option("class 2")
    here.tab.get_by_label("Code").select_option("categorical_1")
    here.idle()
    assert here.tab.locator(".card").count() == 3
    assert here.tab.locator(".card :checked").get_attribute("value") == "2"
    assert here.js("page.categorical[1] === 2")
    assert here.messages == []
    here.tab.locator(".card").first.click()
    here.idle()
    assert here.shown("picture") != before


def test_a_phone_shows_all_of_it_without_scrolling_sideways(pages: dict[str, Path], visit: Open) -> None:
    for name in pages:
        here = visit(pages[name], viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
        assert here.js("document.documentElement.scrollWidth") == 390


def test_a_finger_draws_and_does_not_scroll(pages: dict[str, Path], visit: Open) -> None:
    here = visit(pages["grey"], viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    box = here.tab.locator("#board").bounding_box()
    session = here.tab.context.new_cdp_session(here.tab)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        at = [{"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]} for x, y in points]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

    touch("touchStart", (0.5, 0.2))
    for step in range(1, 20):
        touch("touchMove", (0.5, 0.2 + step / 40))
    touch("touchEnd")
    here.idle()
    assert here.js("page.board.strokes.length") == 1
    assert here.js("scrollY") == 0
    assert here.verdict() != "nothing yet"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(scheme: str, pages: dict[str, Path], visit: Open) -> None:
    here = visit(pages["grey"], color_scheme=scheme)
    found = here.js(
        """() => Object.fromEntries(["ground", "surface", "text", "muted", "accent", "on-accent", "field", "warning", "warning-soft"]
        .map((name) => [name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim()]))"""
    )

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(a: str, b: str) -> float:
        low, high = sorted((luminance(found[a]), luminance(found[b])))
        return (high + 0.05) / (low + 0.05)

    for text in ("text", "muted", "accent"):
        assert min(contrast(text, "ground"), contrast(text, "surface")) >= 4.5, text
    assert contrast("warning", "warning-soft") >= 4.5
    assert contrast("field", "surface") >= 3
