"""Image files of every mode, written by Pillow and read back: grey ramps stay ramps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infogan_dist.data.decoding import UnreadableImage, decode

RAMP = np.tile(np.arange(256, dtype=np.uint8), (8, 1))  # [8, 256], black to white
GREY = Image.fromarray(RAMP)
RED = (255, 0, 0)


def close(image: Image.Image, expected: np.ndarray, tolerance: int = 0) -> bool:
    """Whether all pixels lie within `tolerance` grey levels."""
    return int(np.abs(np.asarray(image).astype(int) - expected.astype(int)).max()) <= tolerance


def half_transparent(colour: tuple[int, int, int]) -> Image.Image:
    """Left half opaque, right half fully transparent over hidden pixels of another colour."""
    image = Image.new("RGBA", (8, 4), (*colour, 255))
    image.paste((0, 255, 0, 0), (4, 0, 8, 4))
    return image


OPAQUE = {
    "1-bit": (GREY.point(lambda value: 255 * (value > 127)).convert("1"), 255 * (RAMP > 127)),
    "8-bit grey": (GREY, RAMP),
    "16-bit grey": (Image.fromarray(RAMP.astype(np.uint16) * 257), RAMP),
    "RGB": (GREY.convert("RGB"), RAMP),
    "palette": (GREY.convert("RGB").quantize(256), RAMP),
    "reversed palette": (Image.fromarray(255 - RAMP).convert("P"), 255 - RAMP),
    "opaque alpha": (GREY.convert("LA"), RAMP),
}


@pytest.mark.parametrize(("image", "expected"), OPAQUE.values(), ids=OPAQUE)
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_opaque_ramp_of_any_mode_is_decoded_exactly(
    tmp_path: Path, image: Image.Image, expected: np.ndarray, ending: str
) -> None:
    image.save(tmp_path / f"a.{ending}")
    grey, colour = decode(tmp_path / f"a.{ending}", 1), decode(tmp_path / f"a.{ending}", 3)
    assert (grey.mode, colour.mode) == ("L", "RGB")
    assert close(grey, expected, tolerance=1)
    assert close(colour, np.repeat(expected[:, :, None], 3, axis=2), tolerance=1)


def test_cmyk_and_float_images_are_decoded(tmp_path: Path) -> None:
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "red.tif")
    assert decode(tmp_path / "red.tif", 3).getpixel((0, 0)) == RED
    Image.new("RGB", (16, 16), RED).convert("CMYK").save(tmp_path / "red.jpg", quality=100)
    assert close(decode(tmp_path / "red.jpg", 3), np.full((16, 16, 3), RED), tolerance=4)
    Image.fromarray(RAMP.astype(np.float32) / 255).save(tmp_path / "float.tif")
    assert close(decode(tmp_path / "float.tif", 1), RAMP)


TRANSPARENT: dict[str, tuple[str, Callable[[Image.Image], Image.Image]]] = {
    "RGBA": ("png", lambda image: image),
    "RGBA webp": ("webp", lambda image: image),
    "palette": ("png", lambda image: image.quantize(4)),
    "gif": ("gif", lambda image: image),
}


@pytest.mark.parametrize(("ending", "convert"), TRANSPARENT.values(), ids=TRANSPARENT)
@pytest.mark.parametrize(("background", "behind"), [("white", 255), ("black", 0), ("#808080", 128)])
def test_transparent_pixels_show_only_the_background(
    tmp_path: Path, ending: str, convert: Callable[[Image.Image], Image.Image], background: str, behind: int
) -> None:
    options = {"lossless": True, "exact": True} if ending == "webp" else {}
    convert(half_transparent(RED)).save(tmp_path / f"a.{ending}", **options)
    image = decode(tmp_path / f"a.{ending}", 3, background)
    assert image.getpixel((1, 1)) == RED
    assert image.getpixel((6, 1)) == (behind,) * 3
    assert decode(tmp_path / f"a.{ending}", 1, background).getpixel((6, 1)) == behind


def test_transparent_grey_value_shows_the_background(tmp_path: Path) -> None:
    GREY.save(tmp_path / "a.png", transparency=0)
    assert decode(tmp_path / "a.png", 1).getpixel((0, 0)) == 255
    assert decode(tmp_path / "a.png", 1).getpixel((200, 0)) == 200


def test_half_transparent_ink_is_blended(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (0, 0, 0, 128)).save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png", 1, "white").getpixel((0, 0)) == pytest.approx(127, abs=1)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.new("L", (4, 2), 0)
    image.putpixel((0, 0), 255)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turned by a quarter
    image.save(tmp_path / "a.png", exif=exif)
    upright = decode(tmp_path / "a.png", 1)
    assert upright.size == (2, 4)
    assert upright.getpixel((1, 0)) == 255


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (Image.fromarray(np.array([[0.0, 3.0]], dtype=np.float32)), "its values are from 0 to 3, not within 0 to 1"),
        (Image.fromarray(np.array([[0, 70_000]], dtype=np.int32)), "not within 0 to 65535"),
        (Image.fromarray(np.array([[0.0, np.nan]], dtype=np.float32)), "not within"),
    ],
)
def test_values_of_an_unknown_range_are_refused(tmp_path: Path, image: Image.Image, reason: str) -> None:
    image.save(tmp_path / "a.tif")
    with pytest.raises(UnreadableImage, match=reason) as caught:
        decode(tmp_path / "a.tif", 1)
    assert str(tmp_path / "a.tif") in str(caught.value)
