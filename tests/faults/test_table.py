"""The table of faults in README.md names tests. Each of them must exist."""

from __future__ import annotations

import re

from tests.conftest import ROOT


def test_every_test_named_in_the_readme_exists() -> None:
    named = set(re.findall(r"\btest_\w+", (ROOT / "tests/faults/README.md").read_text()))
    files = list((ROOT / "tests").rglob("test_*.py"))
    known = {path.stem for path in files}
    known |= {name for path in files for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)}
    assert named <= known, named - known
