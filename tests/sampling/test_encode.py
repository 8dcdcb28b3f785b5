from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from infogan_dist import Generator
from infogan_dist.distributed.single_process import SingleProcess
from infogan_dist.errors import UserError
from infogan_dist.sampling.encode import DRAWN, LEAST_SURE, SUREST, Encoded, contact_sheet, encode, write_csv
from infogan_dist.sampling.recognizer import Recognizer
from tests.conftest import tiny

CONFIG = tiny("run", "latents={noise: [{dim: 2}], categorical: [3], continuous: 1}")


class Brightness(nn.Module):
    """Knows the class of an image by its mean, in [-1, 1]: dark, grey, bright; the surer the farther it is from the others."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean((1, 2, 3))[:, None]
        middles = torch.tensor([[-0.6, 0.0, 0.6]])
        return torch.cat([-9 * (mean - middles).square(), mean, torch.zeros_like(mean)], dim=1) * self.weight


class Flat(nn.Module):
    """Draws the middle of a class."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, vector: Tensor) -> Tensor:
        level = vector[:, 2:5] @ torch.tensor([-0.6, 0.0, 0.6])
        return self.weight * level[:, None, None, None].expand(-1, 1, 28, 28)


Q = Recognizer(nn.Identity(), Brightness(), CONFIG)
Q.FE.weight = nn.Parameter(torch.ones(1))  # its dtype is asked for
G = Generator(Flat(), CONFIG)


@pytest.fixture
def encoded(tmp_path: Path) -> Encoded:
    """Dark images of 20 levels, of them one below a folder, and a bright one of another size."""
    (tmp_path / "below").mkdir()
    for number in range(20):
        folder = tmp_path / "below" if number == 3 else tmp_path
        Image.new("L", (28, 28), 2 * number).save(folder / f"{number:02d}, dark.png")
    Image.new("RGB", (60, 40), "white").save(tmp_path / "bright.jpg")
    (tmp_path / "notes.txt").touch()
    return encode(tmp_path, Q, SingleProcess().map_batches)


def test_each_file_gets_its_class_probability_word_and_continuous_codes(encoded: Encoded, tmp_path: Path) -> None:
    write_csv(encoded, Q.spec, lambda code, number: {0: "night"}.get(number, ""), tmp_path / "codes.csv")
    with (tmp_path / "codes.csv").open(encoding="utf-8", newline="") as file:
        table = {row["file"]: row for row in csv.DictReader(file)}
    assert len(table) == 21
    dark, bright = table["below/03, dark.png"], table["bright.jpg"]
    assert list(dark) == ["file", "categorical_0", "categorical_0_probability", "categorical_0_name", "continuous_0"]
    assert (dark["categorical_0"], dark["categorical_0_name"]) == ("0", "night")
    assert (bright["categorical_0"], bright["categorical_0_name"]) == ("2", "")
    mean = 6 / 127.5 - 1
    assert float(dark["continuous_0"]) == pytest.approx(mean, abs=1e-4)
    logits = torch.tensor([-9 * (mean - middle) ** 2 for middle in (-0.6, 0.0, 0.6)])
    assert float(dark["categorical_0_probability"]) == pytest.approx(logits.softmax(0)[0].item(), abs=1e-4)


def test_a_sheet_has_a_row_for_each_class_with_its_surest_and_least_sure_images(encoded: Encoded) -> None:
    images, sheet = contact_sheet(encoded, G, "title", lambda code, number: f"{code} {number}")
    assert sheet.columns == DRAWN + 1 + SUREST + 1 + LEAST_SURE
    assert list(sheet.captions.rows) == [
        *("categorical_0 0\n20 images", "categorical_0 1\n0 images", "categorical_0 2\n1 image"),
    ]
    dark = list(sheet.cells)[: sheet.columns]
    assert dark[DRAWN] is None
    assert dark[DRAWN + 1 + SUREST] is None
    shown = [cell for cell in dark if cell is not None]
    assert len(shown) == DRAWN + SUREST + LEAST_SURE
    drawn, surest, least = images[shown].flatten(1).float().mean(1).split([DRAWN, SUREST, LEAST_SURE])
    assert drawn.tolist() == [51] * 3  # -0.6
    assert surest.tolist() == [0, 2, 4, 6, 8, 10]  # the darkest first
    assert least.tolist() == [38, 36, 34]
    names = list(sheet.captions.cells)[: sheet.columns]
    assert names[DRAWN + 1].startswith("00, dark\n")
    assert names[-1].startswith("17, dark\n")
    assert [cell for cell in list(sheet.cells)[sheet.columns : 2 * sheet.columns] if cell is not None] == [12, 13, 14]


def test_what_cannot_be_encoded_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--images .*nowhere is not a folder"):
        encode(tmp_path / "nowhere", Q, SingleProcess().map_batches)
    with pytest.raises(UserError, match=r"--images .* holds no images"):
        encode(tmp_path, Q, SingleProcess().map_batches)
    (tmp_path / "broken.png").write_text("no image")
    with pytest.raises(UserError, match=r"broken\.png"):
        encode(tmp_path, Q, SingleProcess().map_batches)


def test_a_model_without_classes_has_no_sheet(encoded: Encoded) -> None:
    without = Generator(Flat(), tiny("run", "latents={noise: [{dim: 2}], categorical: [], continuous: 1}"))
    with pytest.raises(UserError, match=r"this model has 0; drop it"):
        contact_sheet(encoded, without, "", lambda *_: "")
