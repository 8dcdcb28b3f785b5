"""What Q gets of drawings and dropped images: held against MNIST's digits, and read by a trained Q where there is one."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from infogan_dist.data import mnist_mini
from infogan_dist.evaluation.code_names import CodeNames, names_of
from infogan_dist.export.page.build import packed, page
from infogan_dist.export.page.model import Model
from infogan_dist.export.page.words import PEN
from tests.export.page.conftest import PAPER28, Visit, make_run, strokes_of

Open = Callable[..., Visit]
Bytes = NDArray[np.uint8]
RIGHT = 8  # of ten drawn digits


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(make_run(tmp_path_factory.mktemp("reading") / "run", *PAPER28), tmp_path_factory.mktemp("page"))


def written(run: Path, folder: Path) -> Path:
    model, path = Model.load(run), folder / "page.html"
    path.write_text(page(model, packed(model)), encoding="utf-8")
    return path


def of_strokes(here: Visit) -> Bytes:
    """Ten drawn digits [10, 28, 28] as Q gets them."""
    code = (
        "(digits) => digits.map((strokes) => [...imageOf([inkOfStrokes(strokes, 28, page.content.inkBox)])].map(level))"
    )
    found = here.js(code, [strokes_of(digit) for digit in range(10)])
    return np.array(found, dtype=np.uint8).reshape(10, 28, 28)


def of_files(here: Visit, images: list[Image.Image], size: int = 28, channels: int = 1) -> Bytes:
    """Images [N, size, size, channels] as Q gets them when they are dropped."""
    contents = []
    for image in images:
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        contents.append(base64.b64encode(buffer.getvalue()).decode())
    code = """async ([contents, size, channels, box]) => Promise.all(contents.map(async (content) => {
        const file = new File([Uint8Array.from(atob(content), (c) => c.charCodeAt(0))], "digit.png");
        const photo = await readPhoto(file, channels, size);
        return [...imageOf(box ? [inkOfPhoto(photo, size, box)] : middleSquare(photo, size))].map(level);
    }))"""
    box = 20 / 28 if channels == 1 else None
    return np.array(here.js(code, [contents, size, channels, box]), dtype=np.uint8).reshape(-1, size, size, channels)


def nearest(images: Bytes) -> list[int]:
    """The digit of the nearest of mnist-mini's 10,000 train images: a reader that nothing here was trained for."""
    train, digits = mnist_mini.load("train")
    known, asked = (torch.from_numpy(each.reshape(len(each), -1)).float() for each in (train, images))
    return [int(digits[i]) for i in torch.cdist(asked, known).argmin(1)]


def test_ten_drawn_digits_lie_nearest_to_their_digit_in_mnist(address: Path, visit: Open) -> None:
    found = nearest(of_strokes(visit(address)))
    assert sum(digit == drawn for drawn, digit in enumerate(found)) >= RIGHT, found


def test_drawn_ink_is_as_bright_as_mnists(address: Path, visit: Open) -> None:
    here = visit(address)
    assert here.js("PEN") == PEN  # as the page says
    drawn, train = of_strokes(here), mnist_mini.load("train")[0]
    assert drawn.mean() == pytest.approx(train.mean(), rel=0.15)
    grey = [((x > 25) & (x < 230)).sum() / (x > 25).sum() for x in (drawn, train)]  # how soft the edges are
    assert grey[0] == pytest.approx(grey[1], abs=0.1)


def test_a_digit_of_the_data_set_is_taken_as_it_is_and_inverted_where_it_is_dark(address: Path, visit: Open) -> None:
    digits, _ = mnist_mini.load("test")
    here, images = visit(address), [Image.fromarray(digit) for digit in digits[:20]]
    assert np.array_equal(of_files(here, images)[..., 0], digits[:20])
    assert np.array_equal(of_files(here, [ImageOps.invert(image) for image in images])[..., 0], digits[:20])


def photographed(digit: Bytes, seed: int) -> Image.Image:
    """A digit as dark ink somewhere on unevenly lit, dirty paper."""
    random = np.random.default_rng(seed)
    ink = np.asarray(Image.fromarray(digit).resize((280, 280), Image.Resampling.BICUBIC), dtype=float) / 255
    paper = np.zeros((500, 420))
    top, left = random.integers(0, 500 - 280), random.integers(0, 420 - 280)
    paper[top : top + 280, left : left + 280] = ink
    paper[random.integers(0, 500, 30), random.integers(0, 420, 30)] = 1
    light = np.linspace(230, 130, 420)[None] * np.linspace(1, 0.8, 500)[:, None]
    shot = light * (1 - 0.8 * paper) + random.normal(0, 3, paper.shape)
    return Image.fromarray(shot.clip(0, 255).astype(np.uint8)).convert("RGB")


def test_photographed_digits_are_found_scaled_and_centred(address: Path, visit: Open) -> None:
    digits, labels = (each[:30] for each in mnist_mini.load("test"))
    found = of_files(visit(address), [photographed(digit, seed) for seed, digit in enumerate(digits)])
    right = sum(a == b for a, b in zip(nearest(found), labels, strict=True))
    direct = sum(a == b for a, b in zip(nearest(digits), labels, strict=True))
    assert right >= direct - 2


def test_a_thin_pen_is_widened(address: Path, visit: Open) -> None:
    thick, thin = np.full((200, 200), 255, np.uint8), np.full((200, 200), 255, np.uint8)
    thick[40:160, 92:108], thin[40:160, 99:101] = 0, 0
    found = of_files(visit(address), [Image.fromarray(thick), Image.fromarray(thin)])
    assert found[1].mean() == pytest.approx(found[0].mean(), rel=0.25)


def test_colour_images_give_their_middle_square(address: Path, visit: Open) -> None:
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (6, 9, 3), dtype=np.uint8))
    image = coarse.resize((180, 120), Image.Resampling.BICUBIC)
    expected = np.asarray(ImageOps.fit(image, (32, 32), Image.Resampling.BICUBIC), dtype=int)
    found = of_files(visit(address), [image], 32, 3)[0].astype(int)
    assert abs(found - expected).mean() < 3


def test_a_file_that_is_dropped_or_pasted_is_read_and_a_wrong_one_is_named(
    address: Path, visit: Open, tmp_path: Path
) -> None:
    here = visit(address)
    give = """([kind, content, name]) => {
        const files = new DataTransfer();
        files.items.add(new File([Uint8Array.from(atob(content), (c) => c.charCodeAt(0))], name));
        dispatchEvent(kind === "paste" ? new ClipboardEvent("paste", {clipboardData: files}) : new DragEvent(kind, {dataTransfer: files}));
    }"""
    buffer = io.BytesIO()
    Image.fromarray(mnist_mini.load("test")[0][0]).save(buffer, "PNG")
    digit, text = (base64.b64encode(content).decode() for content in (buffer.getvalue(), b"no image"))
    here.js(give, ["dragover", digit, "a.png"])
    assert here.tab.locator("#drop").is_visible()
    for kind in ("drop", "paste"):
        here.js(give, [kind, digit, "a.png"])
        here.tab.wait_for_timeout(200)
        here.idle()
        assert here.verdict() != "nothing yet"
        assert not here.tab.locator("#drop").is_visible()
        here.js(give, [kind, text, "notes.txt"])
        here.tab.locator("#problem").wait_for()
        assert "notes.txt is not an image" in here.problem()
        assert here.verdict() != "nothing yet"  # what was there stays
        here.tab.get_by_role("button", name="Clear").click()
        here.idle()
        assert here.problem() == ""
    Image.new("L", (50, 50), 128).save(tmp_path / "blank.png")
    here.open(tmp_path / "blank.png")
    assert "No ink was found in blank.png" in here.problem()
    assert here.messages == []


def test_quickstarts_Q_reads_ten_drawn_digits(quickstart: Path, tmp_path: Path, visit: Open) -> None:
    names = names_of(quickstart) or matched(quickstart)
    here, found = visit(written(quickstart, tmp_path)), []
    for digit in range(10):
        here.draw(digit)
        found.append(names.of(torch.tensor([here.js("page.categorical[0]")]))[0])
    assert sum(said == str(digit) for digit, said in enumerate(found)) >= RIGHT, found


def matched(run: Path) -> CodeNames:
    """Names from the most frequent digit of each class on test digits, for a run that has none."""
    networks, (digits, labels) = Model.load(run).networks, mnist_mini.load("test")
    with torch.no_grad():
        classes = networks["Q"](networks["FE"](torch.from_numpy(digits)[:, None].float() / 127.5 - 1))[:, :10].argmax(1)
    most = {str(k): int(np.bincount(labels[classes.numpy() == k], minlength=10).argmax()) for k in range(10)}
    return CodeNames(code="categorical_0", labels=most, code_error=0.0, data="mnist-mini", step=0)
