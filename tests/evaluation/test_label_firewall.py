"""Labels cannot reach training: not by an import, not by a name, and not at run time."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

import infogan_dist
from infogan_dist.checkpoints.store import verify
from infogan_dist.data import mnist_mini, sources
from infogan_dist.data.torchvision_layouts import LAYOUTS
from infogan_dist.evaluation import labels
from infogan_dist.registry.data_sets import DATA_SETS
from infogan_dist.training.loop import train
from infogan_dist.training.refine import refine
from infogan_dist.training.step import MicroBatch
from tests.conftest import ONE_PROCESS, tiny, untrained

PACKAGE = Path(infogan_dist.__file__).parent
MAKERS = {
    "infogan_dist.data.mnist_mini",
    "infogan_dist.data.sprites",
    "infogan_dist.data.scenes",
}  # load the shipped file; draw images from factors
READERS = ("test_labels", "train_labels", "read_labels", "read_classes", "read_factors")
LABEL_WORDS = ("label", "target", "digit")
MAY_BE_IMPORTED = {"evaluate_networks"}  # by training: it returns floats


RECORDS = "infogan_dist.registry.data_sets"  # names the functions that read labels, in strings, and imports none
METRIC_RECORDS = "infogan_dist.registry.metrics"
NAMED = re.compile(r"infogan_dist(\.\w+)+(:[\w.]+)?")  # module:attribute, as in records


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imported(tree: ast.AST) -> Iterator[str]:
    """The dotted names that a module imports anywhere, or names in a string, as records do."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and NAMED.fullmatch(node.value):
            yield node.value.replace(":", ".")


def label_reads(tree: ast.AST) -> list[str]:
    """Each access to labels in a module: imports, a record's readers, torchvision's attributes, mnist-mini's arrays."""
    modules_with_labels = (
        *(f"infogan_dist.evaluation.{name}labels" for name in ("", "folder_", "hub_", "shard_")),
        METRIC_RECORDS,
    )
    found = [name for name in imported(tree) if name.startswith(modules_with_labels)]
    digits_of_mini: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in ("targets", "labels", *READERS):
            found.append(f".{node.attr} in line {node.lineno}")
        if "factors_at" in (getattr(node, "id", ""), getattr(node, "attr", ""), getattr(node, "name", "")):
            found.append("factors_at")
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("DATA_SETS.load") and not _opens(node):
            found.append(f"{ast.unparse(node)} in line {node.lineno}")
        if isinstance(node, ast.Constant) and node.value in READERS:
            found.append(f"{node.value} in line {node.lineno}")
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.endswith("_labels"):
            found.append(f"{node.value} in line {node.lineno}")
        if isinstance(node, ast.Subscript) and _loads_mini(node.value) and ast.unparse(node.slice) == "0":
            digits_of_mini.add(node.value)  # images only
        if _loads_mini(node) and node not in digits_of_mini:
            found.append(f"mnist_mini.load in line {node.lineno}")  # type: ignore[attr-defined]
    return found


def _loads_mini(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).endswith("mnist_mini.load")


def _opens(call: ast.Call) -> bool:
    """Whether the call loads a record's `open` or `scan`, which find images, and no other function."""
    return len(call.args) > 1 and isinstance(call.args[1], ast.Constant) and call.args[1].value in ("open", "scan")


def training_modules(first: str = "infogan_dist.training.loop") -> set[str]:
    """The modules that `first` imports, without evaluation and the package itself, whose names users import lazily."""
    every, reached, ahead = modules(), set(), [first]
    while ahead:
        name = ahead.pop()
        name = name if name in every else name.rpartition(".")[0]
        if name in every and name not in {*reached, "infogan_dist"} and not name.startswith("infogan_dist.evaluation"):
            reached.add(name)
            ahead += list(imported(every[name]))
    return reached


def test_only_evaluation_reads_labels() -> None:
    for name, tree in modules().items():
        if not name.startswith("infogan_dist.evaluation") and name not in {*MAKERS, RECORDS, METRIC_RECORDS}:
            assert not label_reads(tree), f"{name} reads labels: {label_reads(tree)}"


def test_the_records_of_data_sets_only_name_functions_that_read_labels() -> None:
    tree = modules()[RECORDS]
    needed = {name.rpartition(".")[0] for name in imported(tree) if not name.startswith("infogan_dist.")}
    assert needed == {"__future__", "dataclasses", "typing"}
    ours = {name for node in tree.body if isinstance(node, ast.ImportFrom) for name in imported(node)}
    assert {name for name in ours if name.startswith("infogan_dist.")} == {"infogan_dist.registry.lookup.Registry"}
    assert not any(isinstance(node, ast.Attribute) and node.attr == "load" for node in ast.walk(tree))


def test_training_imports_only_a_function_that_returns_floats() -> None:
    reached = training_modules()
    assert {"infogan_dist.training.step", "infogan_dist.data.sources", "infogan_dist.losses"} <= reached
    assert {"infogan_dist.networks.paper28", "infogan_dist.data.sprites", RECORDS} <= reached  # records name them
    assert METRIC_RECORDS not in reached
    for name in reached - {RECORDS}:
        used = {each for each in imported(modules()[name]) if each.startswith("infogan_dist.evaluation")}
        beyond = {each for each in used if each.rpartition(".")[2] not in MAY_BE_IMPORTED}
        assert not beyond, f"{name} imports {beyond}"


def test_refine_imports_no_evaluation_and_opens_no_images() -> None:
    reached = training_modules("infogan_dist.training.refine")
    assert {"infogan_dist.data.augmentation", "infogan_dist.losses", "infogan_dist.networks.paper28"} <= reached
    assert "infogan_dist.data.sources" not in set(imported(modules()["infogan_dist.training.refine"]))
    for name in reached - {RECORDS}:
        used = [each for each in imported(modules()[name]) if each.startswith("infogan_dist.evaluation")]
        assert not used, f"{name} imports {used}"


def test_a_micro_batch_has_no_field_for_labels() -> None:
    for field in fields(MicroBatch):
        assert not any(word in field.name for word in LABEL_WORDS), field.name


@pytest.mark.parametrize(
    "code",
    [
        "from infogan_dist.evaluation.labels import open_labelled",
        "from infogan_dist.evaluation import labels",
        "import infogan_dist.evaluation.labels as x",
        "digits = dataset(root).targets",
        "images, digits = mnist_mini.load('train')",
        "digits = mnist_mini.load('train')[1]",
        "digits = arrays['train_labels']",
        "factors = sprites.factors_at('train', indexes)",
        "from infogan_dist.data.sprites import factors_at as seen",
        "digits = DATA_SETS.load(data.name, 'read_labels')(data, split)",
        "digits = DATA_SETS.load(data.name, field)(data, split)",
        "digits = import_module(DATA_SETS[data.name].read_labels)",
        "factors = getattr(record, 'read_factors')",
        "digits = import_module('infogan_dist.evaluation.labels')",
        "from infogan_dist.registry.metrics import METRICS",
    ],
)
def test_the_check_detects_each_access_to_labels(code: str) -> None:
    assert label_reads(ast.parse(code))
    assert not label_reads(ast.parse("images = mnist_mini.load('train')[0]\nimages = dataset(root).data"))
    assert not label_reads(ast.parse("images = DATA_SETS.load(data.name, 'open')(data, split)"))


class Forbidden:
    """Labels that raise on every access."""

    def _fail(self, *_: object) -> NoReturn:
        raise AssertionError("a label was read in training")

    __array__ = __bool__ = __eq__ = __getattr__ = __getitem__ = __int__ = __iter__ = __len__ = _fail  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]


class GuardedDataset:
    """Like torchvision's MNIST, but only the images can be read."""

    def __init__(self, root: str, train: bool, download: bool = False):
        self.data = torch.from_numpy(mnist_mini.load("train" if train else "test")[0])

    def __getattr__(self, name: str) -> NoReturn:
        raise AssertionError(f"{name} of the data set was read in training")

    def __getitem__(self, index: int) -> NoReturn:
        raise AssertionError("an image was read with its label")


RECIPES = {
    "plain": [],
    "augmentation, clustering, neighbours and a learned prior": [
        "objective={information_trains: trunk, information_from: augmented, lambda_clustering: 1, clustering_from: 0,"
        " clustering_in_full: 0.5, neighbour_positives: 0.5}",
        "latents.prior=learned",
        "latents.prior_from=0",
    ],
}


def weights(output: Path, *overrides: str) -> dict[str, bytes]:
    """Train a tiny run without evaluation; returns the files of its last checkpoint."""
    train(tiny(output, "evaluate.every=0", "train.steps=4", *overrides), ONE_PROCESS)
    checkpoint = verify(output / "checkpoints" / "step-00000004")
    return {name: (checkpoint.path / name).read_bytes() for name in checkpoint.manifest["files"]}


@pytest.mark.parametrize(
    "data", ["{name: imbalanced-mnist}", "{name: stacked-mnist, channels: 3}"], ids=["imbalanced", "stacked"]
)
def test_data_sets_made_from_mnist_train_when_reading_a_label_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str
) -> None:
    load = mnist_mini.load
    expected = weights(tmp_path / "with", f"data={data}")
    monkeypatch.setattr(mnist_mini, "load", lambda split: (load(split)[0], Forbidden()))
    assert weights(tmp_path / "without", f"data={data}") == expected


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_training_gives_the_same_bytes_when_reading_a_label_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: list[str]
) -> None:
    expected = weights(tmp_path / "with", *recipe)
    load = mnist_mini.load

    def guarded(split: str) -> tuple[Any, Any]:
        return load(split)[0], Forbidden()

    def read(*_: object) -> NoReturn:
        raise AssertionError("labels were read in training")

    for reader in ("mnist_mini_labels", "torchvision_labels", "svhn_labels"):
        monkeypatch.setattr(labels, reader, read)
    guarded_layout = replace(LAYOUTS["MNIST"], dataset=GuardedDataset, list_files=lambda dataset, split: {})
    monkeypatch.setitem(LAYOUTS, "MNIST", guarded_layout)
    assert weights(tmp_path / "torchvision", "data={name: mnist, root: nowhere}", *recipe) == expected
    monkeypatch.setattr(mnist_mini, "load", guarded)
    assert weights(tmp_path / "without", *recipe) == expected


def test_refine_gives_the_same_bytes_when_reading_any_real_image_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [untrained(tmp_path / name) for name in ("with", "without")]
    expected = refine(runs[0], ONE_PROCESS, images=128)

    def read(*_: object) -> NoReturn:
        raise AssertionError("a real image was read")

    monkeypatch.setattr(mnist_mini, "load", read)
    for name in ("open_images", "scaled"):
        monkeypatch.setattr(sources, name, read)
    with pytest.raises(AssertionError, match="a real image was read"):
        DATA_SETS.load("mnist-mini", "open", Callable)(tiny("x").data, "train")
    found = refine(runs[1], ONE_PROCESS, images=128)
    for file in ("FE.safetensors", "Q.safetensors"):
        assert (found / file).read_bytes() == (expected / file).read_bytes()


def test_the_guards_raise_on_reading_a_label() -> None:
    for read in (
        lambda: Forbidden()[0],
        lambda: torch.as_tensor(Forbidden()),
        lambda: GuardedDataset("", True).targets,
    ):
        with pytest.raises(AssertionError):
            read()
