from __future__ import annotations

from infogan_dist.sampling.sheets import in_order, rows_by_class, sorted_by_class


def test_a_row_for_each_class_that_is_drawn() -> None:
    sheet = rows_by_class([2, 0, 2, 0, 0], "categorical_0", "title", "class {}".format)
    assert sheet.columns == 3
    assert list(sheet.cells) == [1, 3, 4, 0, 2, None]
    assert list(sheet.captions.rows) == ["class 0", "class 2"]
    assert sheet.captions.row_axis == "categorical_0"


def test_a_class_with_many_images_takes_several_rows_of_about_one_length() -> None:
    sheet = rows_by_class([0] * 50 + [1] * 3, "categorical_0", "", str)
    assert sheet.columns == 13
    assert list(sheet.captions.rows) == ["0", "", "", "", "1"]
    assert [cell for cell in sheet.cells if cell is not None] == list(range(53))
    assert len(sheet.cells) == 5 * 13


def test_sorted_images_have_their_class_below_and_keep_their_order_within_it() -> None:
    sheet = sorted_by_class([3, 1, 3, 1], 4, "title", str)
    assert list(sheet.cells) == [1, 3, 0, 2]
    assert list(sheet.captions.cells) == ["1", "1", "3", "3"]


def test_images_in_order() -> None:
    sheet = in_order(3, 2, "title", ["a", "b", "c"])
    assert (list(sheet.cells), sheet.columns, sheet.captions.title) == ([0, 1, 2], 2, "title")
