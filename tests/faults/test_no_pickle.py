"""No file that the package reads can run code: the package has no call that unpickles or evaluates."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import infogan_dist

PACKAGE = Path(infogan_dist.__file__).parent
UNPICKLING = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
EVALUATING = {"eval", "exec", "__import__"}
UNSAFE_YAML = {
    "load",
    "load_all",
    "full_load",
    "unsafe_load",
}  # PyYAML's own; the package's loader reads plain values only


def dangers(source: str) -> Iterator[str]:
    """The calls in a module that could unpickle or evaluate, as text."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [name.name for name in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (f"imports {name}" for name in names if name.partition(".")[0] in UNPICKLING)
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            settings = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if called in EVALUATING:
                yield f"calls {called}"
            if called == "torch.load" and settings.get("weights_only") != "True":
                yield "calls torch.load without weights_only=True"
            if settings.get("allow_pickle", "False") != "False" or settings.get("weights_only", "True") != "True":
                yield f"calls {called} with {settings}"
            if called.startswith("yaml.") and called.partition(".")[2] in UNSAFE_YAML and "Loader" not in settings:
                yield f"calls {called} without a loader"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_unpickles_or_evaluates(path: Path) -> None:
    assert list(dangers(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "line",
    [
        *("import pickle", "from joblib import load", "torch.load(path)", "torch.load(path, weights_only=False)"),
        *("np.load(path, allow_pickle=True)", "yaml.load(text)", "eval(text)"),
    ],
)
def test_search_for_pickle_finds_every_form(line: str) -> None:
    assert len(list(dangers(line))) >= 1
