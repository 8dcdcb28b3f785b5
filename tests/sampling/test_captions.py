from __future__ import annotations

import numpy as np
import pytest
import torch

from infogan_dist.sampling.captions import LINE, MARGIN, PADDING, Captions, captioned, in_cells, picture, tiled

GREY = torch.full((6, 1, 28, 28), 128, dtype=torch.uint8)


def columns_with_ink(pixels: np.ndarray, below: int = 100) -> np.ndarray:
    """The columns of a picture with dark pixels: text, where the images are grey."""
    return np.flatnonzero((pixels < below).any(axis=0))


def test_images_lie_row_by_row_and_the_last_row_is_filled_with_white() -> None:
    images = torch.arange(5, dtype=torch.uint8).mul(40)[:, None, None, None].expand(5, 1, 2, 2)
    pixels = np.asarray(tiled(images, 3, scale=2, room=(1, 3)))
    assert pixels.shape == (2 * (4 + 3), 3 * (4 + 1))
    assert pixels[::7, ::5].tolist() == [[0, 40, 80], [120, 160, 255]]
    assert (pixels[4:7] == 255).all()
    assert (pixels[:, 4] == 255).all()


def test_empty_cells_are_white() -> None:
    images = torch.zeros(2, 1, 2, 2, dtype=torch.uint8)
    cells = in_cells(images, [1, None, 0])
    assert cells[:, 0, 0, 0].tolist() == [0, 255, 0]


def test_small_images_are_enlarged_beside_text_and_bare_pixels_are_not() -> None:
    assert captioned(GREY, 6, Captions(title="a")).width >= 6 * 56
    assert captioned(GREY, 6, Captions(title="a"), scale=1).width < 6 * 56
    assert picture(GREY, 6, None).size == (6 * 28, 28)


def test_the_images_of_a_captioned_grid_are_the_given_pixels() -> None:
    images = torch.randint(120, 256, (4, 3, 64, 64), dtype=torch.uint8)
    whole = captioned(images, 2, Captions("a title", "rows", ("0", "1"), "columns", ("0", "1")), scale=1)
    pixels = np.asarray(whole)
    found = np.argwhere((pixels == images[0].permute(1, 2, 0)[0, 0].numpy()).all(-1))
    corners = [(y, x) for y, x in found if np.array_equal(pixels[y : y + 64, x : x + 64], images[0].permute(1, 2, 0))]
    assert len(corners) == 1
    y, x = corners[0]
    step = 64 + PADDING
    assert np.array_equal(pixels[y + step : y + step + 64, x + step : x + step + 64], images[3].permute(1, 2, 0))


def test_names_stand_beside_their_rows_above_their_columns_and_below_their_cells() -> None:
    names = {"rows": ("", "WWW"), "columns": ("", "", "WWW"), "cells": ("", "", "", "", "WWW", "")}
    for place, texts in names.items():
        pixels = np.asarray(captioned(GREY, 3, Captions(**{place: texts}), scale=2))
        grey = np.argwhere(pixels == 128)
        (top, left), (bottom, right) = grey.min(0), grey.max(0)
        ink = np.argwhere(pixels < 100).mean(0)
        middle_row, second_row = (top + bottom) / 2, top + 0.75 * (bottom - top)
        if place == "rows":
            assert ink[1] < left
            assert abs(ink[0] - second_row) < 8
        elif place == "columns":
            assert ink[0] < top
            assert ink[1] > left + 2 * (right - left) / 3 - 2
        else:
            assert middle_row < bottom < ink[0]
            assert abs(ink[1] - (left + right) / 2) < 2


@pytest.mark.parametrize("scale", [1, 2, 5])
def test_no_text_touches_the_edge(scale: int) -> None:
    names = [f"{value:.2f}" for value in torch.linspace(-1, 1, 6).tolist()]
    captions = Captions("a title that is longer than the picture " * 4, columns=names, cells=names)
    pixels = np.asarray(captioned(GREY, 6, captions, scale))
    for edge in (pixels[:4], pixels[-4:], pixels[:, :4], pixels[:, -4:]):
        assert (edge == 255).all()


@pytest.mark.parametrize(("columns", "shown"), [(6, 6), (24, 12)])
def test_names_of_many_columns_that_would_touch_are_left_out(columns: int, shown: int) -> None:
    names = [f"{value:.2f}" for value in torch.linspace(-1, 1, columns).tolist()]
    pixels = np.asarray(captioned(GREY[:1].expand(columns, -1, -1, -1), columns, Captions(columns=names), scale=1))
    ink = columns_with_ink(pixels[MARGIN : MARGIN + LINE], 200)
    assert 1 + int((np.diff(ink) > 5).sum()) == shown


def test_a_text_that_is_too_long_keeps_its_beginning_and_end() -> None:
    long = captioned(GREY[:1], 1, Captions(cells=("0123456789" * 9,)), scale=2)
    assert long.width < 28 * 2 + 80


def test_letters_that_the_font_lacks_are_replaced() -> None:
    odd, plain = Captions(title="Zürich 図").in_ascii(), Captions(title="Zurich ?")
    assert odd.title == plain.title
    assert captioned(GREY, 3, odd).tobytes() == captioned(GREY, 3, plain).tobytes()
