"""The layout: imports only go down the layers, and files are short."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import infogan_dist

PACKAGE = Path(infogan_dist.__file__).parent
LAYERS = (  # from the lowest; the parts of one layer do not import each other
    ("errors", "files", "randomness"),
    ("registry",),
    ("config",),
    ("latents",),
    ("losses",),
    ("networks", "data"),
    ("distributed",),
    ("checkpoints",),
    ("sampling",),
    ("evaluation",),
    ("training",),
    ("export",),
    ("diagnostics", "sweep"),
    ("cli", "api"),
    ("__main__",),
)
LAYER_OF = {part: number for number, layer in enumerate(LAYERS) for part in layer}
LONGEST = 300  # lines of a file


def part_of(path: Path) -> str:
    """The top-level folder or file of the package that a module belongs to."""
    first, *rest = path.relative_to(PACKAGE).parts
    return first if rest else Path(first).stem


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Each part of the package that a module imports, with the line number."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "infogan_dist":
            names = [f"infogan_dist.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package == "infogan_dist" and rest.partition(".")[0] in LAYER_OF:
                yield rest.partition(".")[0], node.lineno


def upward(part: str, source: str) -> list[str]:
    """The imports of a module of `part` that do not go down."""
    return [
        f"line {line}: {part} imports {imported}"
        for imported, line in imports(ast.parse(source))
        if imported != part and LAYER_OF[imported] >= LAYER_OF[part]
    ]


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def test_every_part_has_a_layer() -> None:
    assert {part_of(path) for path in MODULES} <= set(LAYER_OF)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_only_go_down(path: Path) -> None:
    assert upward(part_of(path), path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        *("from infogan_dist.training.loop import train", "from infogan_dist import training"),
        *("import infogan_dist.training.loop", "def f():\n    from infogan_dist.training import loop"),
    ],
)
def test_an_import_that_goes_up_is_detected(line: str) -> None:
    assert len(upward("data", line)) == 1
    assert upward("diagnostics", line) == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_is_longer_than_300_lines(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST
