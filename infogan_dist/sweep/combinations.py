"""The runs of a sweep: every combination of the values that its overrides list, each with a folder name."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from infogan_dist.config import yaml_core
from infogan_dist.errors import UserError

NAME_LIMIT = 200  # bytes of a folder name
DIGEST = 12  # hexadecimal digits that end a name which was cut


@dataclass(frozen=True)
class Combination:
    """One run: its folder and the overrides for `train`, including `output`."""

    output: Path
    overrides: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.output.name


def combinations(overrides: Sequence[str], folder: Path) -> list[Combination]:
    """The product of the values of all `key.path=1,2,3`, the last key varying fastest. One value is for every run.

    Raises UserError if a key or a value is given twice, if no key has several values, or if an override sets `output`.
    """
    values: dict[str, list[str]] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise UserError(f"{override!r} is not of the form key.path=value or key.path=1,2,3")
        if key == "output":
            raise UserError(f"{override}: a sweep names the run folders itself; give --output DIR instead")
        if key in values:
            raise UserError(f"{key} is given twice; list its values in one place: {key}=1,2,3")
        values[key] = _values_in(text, key)
    swept = [key for key, each in values.items() if len(each) > 1]
    if not swept:
        raise UserError("there is nothing to sweep; give a key several values, such as seed=1,2,3")
    return [_combination(dict(zip(values, chosen, strict=True)), swept, folder) for chosen in _product(values)]


def folder_name(values: dict[str, str]) -> str:
    """`seed=1,latents.categorical=%5B10%5D`: percent-encoded as in a URL. A long name is cut and ends with the hash of the full name."""
    name = ",".join(f"{quote(key, safe='')}={quote(text, safe='')}" for key, text in values.items())
    if len(name) <= NAME_LIMIT:
        return name
    return f"{name[: NAME_LIMIT - DIGEST - 1]}-{hashlib.sha256(name.encode()).hexdigest()[:DIGEST]}"


def _values_in(text: str, key: str) -> list[str]:
    texts = yaml_core.flow_items(text, f"the list of values of {key}")
    parsed = [repr(yaml_core.load(each, f"the value of {key}")) for each in texts]
    for number, each in enumerate(parsed):
        if each in parsed[:number]:
            raise UserError(f"{key}={text} lists {texts[number]} twice")
    return texts


def _product(values: dict[str, list[str]]) -> list[tuple[str, ...]]:
    return list(itertools.product(*values.values()))


def _combination(values: dict[str, str], swept: list[str], folder: Path) -> Combination:
    output = folder / folder_name({key: values[key] for key in swept})
    overrides = [f"{key}={text}" for key, text in values.items()]
    return Combination(output, (*overrides, f"output={yaml_core.scalar(str(output))}"))
