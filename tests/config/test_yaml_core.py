from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infogan_dist.config import yaml_core
from infogan_dist.errors import UserError

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-4", 2e-4),
        ("no", "no"),
        ("off", "off"),
        ("yes", "yes"),
        ("true", True),
        ("null", None),
        ("~", None),
        ("", None),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("+3", 3),
        (".5", 0.5),
        ("1.", 1.0),
        ("-.inf", -math.inf),
        ("2001-01-01", "2001-01-01"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("=", "="),
        ('"10"', "10"),
        ("[1, no, 2e3]", [1, "no", 2000.0]),
    ],
)
def test_resolves_by_the_core_schema(text: str, value: object) -> None:
    loaded = yaml_core.load(text, "here")
    assert loaded == value
    assert type(loaded) is type(value)


@given(VALUES)
def test_what_is_dumped_loads_back(value: object) -> None:
    assert yaml_core.load(yaml_core.dump(value), "here") == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\na: 2", ["here:2", "'a' occurs twice"]),
        ("a: [1", ["here:"]),
        ("a: !!python/object/apply:os.system [ls]", ["here:1", "could not determine a constructor"]),
        ("? [1, 2]\n: 3", ["must be a string"]),
    ],
)
def test_bad_yaml_is_one_line_that_says_where(text: str, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        yaml_core.load(text, "here")
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), caught.value


@given(st.text())
def test_no_text_gives_more_than_a_user_error(text: str) -> None:
    try:
        yaml_core.load(text, "here")
    except UserError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either outcome is fine


def test_key_lines() -> None:
    assert yaml_core.key_lines("a: 1\nb:\n  c: 2\n  d:\n  - 3\n") == {"a": 1, "b": 2, "b.c": 3, "b.d": 4, "b.d.0": 5}
