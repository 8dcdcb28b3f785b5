"""Plugins: records that installed distributions register as entry points."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infogan_dist.errors import UserError
from infogan_dist.evaluation.command import EvaluateOptions, evaluate
from infogan_dist.registry.data_sets import DATA_SETS, DataSetRecord
from infogan_dist.registry.families import FAMILIES
from infogan_dist.registry.lookup import Registry
from infogan_dist.registry.losses import ADVERSARIAL_LOSSES
from infogan_dist.registry.metrics import METRICS
from tests.conftest import ONE_PROCESS, ROOT, Command, clean_environment, refused

TOY = (
    *("debug", "data={name: toy-stripes, image_size: 16}", "networks={family: toy-mlp, width: 2}"),
    *("objective.adversarial=toy-hinge", "latents={noise: [{dim: 4}], categorical: [3], continuous: 1}", "output=run"),
)
TRAIN = ("train={global_batch: 12, steps: %d, threads: 1, precision: fp32}", "evaluate.every=2", "log.every=1")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the toy plugin's wheel is installed."""
    folder = tmp_path_factory.mktemp("plugin")
    build = ("-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist"))
    subprocess.run([sys.executable, *build], cwd=ROOT / "tests" / "toy_plugin", check=True, capture_output=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    install = ("-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(folder / "site"))
    subprocess.run([sys.executable, *install, str(wheel)], check=True, capture_output=True)
    return folder / "site"


def rows(run: Path, kind: str) -> list[dict[str, Any]]:
    """The rows of one kind in a run's metrics."""
    every = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in every if row["kind"] == kind]


def test_plugins_of_each_kind_train_resume_and_evaluate(infogan: Command, tmp_path: Path, site: Path) -> None:
    path = {"PYTHONPATH": f"{site}:{ROOT}"}
    for steps in (2, 4):  # the second resumes
        trained = infogan("train", *TOY, *TRAIN[1:], TRAIN[0] % steps, **path)
        assert trained.returncode == 0, trained.stderr
    assert [row["step"] for row in rows(tmp_path / "run", "train")] == [1, 2, 3, 4]
    assert [row["step"] for row in rows(tmp_path / "run", "evaluate")] == [2, 4]
    assert all(-1 <= row["toy_brightness"] <= 1 for row in rows(tmp_path / "run", "evaluate"))
    first = rows(tmp_path / "run", "train")[0]
    assert first["loss/D"] == pytest.approx(2, abs=0.2)  # hinge of logits near 0; the cross-entropies would be 1.39

    evaluated = infogan("evaluate", "run", "--json", "metrics.json", **path)
    assert evaluated.returncode == 0, evaluated.stderr
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["data"], metrics["images"]) == ("toy-stripes", 48)
    assert metrics["toy_brightness"] == pytest.approx(
        rows(tmp_path / "run", "evaluate")[-1]["toy_brightness"], abs=1e-3
    )
    assert set(metrics["matching"]["labels"].values()) <= {0, 1, 2}
    assert 0 <= metrics["code_error"] <= 1
    assert "frechet" not in metrics  # the reference classifier reads digits

    with pytest.raises(UserError, match=r"toy-stripes.*installed plugin"):  # it is not installed in this process
        evaluate(EvaluateOptions((tmp_path / "run",)), ONE_PROCESS)
    refused(infogan("train", *TOY, *TRAIN[1:], TRAIN[0] % 6), 'data.name = "toy-stripes"', "installed plugin")
    refused(infogan("train", *TOY, "data.image_size=28", **path), "data.image_size = 28", "toy-mlp; use 16")


def test_config_that_names_plugins_is_checked_without_torch(site: Path) -> None:
    overrides = [each for each in TOY if each != "debug"]
    code = (
        "import sys\nfrom infogan_dist.config.reading import load_config\n"
        f"assert load_config('debug', {overrides!r}).data.name == 'toy-stripes'\n"
        "sys.exit(bool({'torch', 'numpy', 'infogan_toy.mlp'} & set(sys.modules)))"
    )
    environment = clean_environment(PYTHONPATH=f"{site}:{ROOT}")
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The data set registry after installing `distributions` with their entry points, all in one module."""

    def made(source: str, **distributions: str) -> Registry[DataSetRecord]:
        (tmp_path / f"{tmp_path.name}.py").write_text(source)
        for name, entry in distributions.items():
            folder = tmp_path / f"{name}-1.0.dist-info"
            folder.mkdir()
            (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            (folder / "entry_points.txt").write_text(f"[infogan_dist.data]\n{entry.replace('MODULE', tmp_path.name)}\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        return Registry(DATA_SETS.what, DATA_SETS.key, DATA_SETS.group, list(DATA_SETS.built_in.values()))

    return made


RECORD = "from infogan_dist.registry.data_sets import DataSetRecord\nTOY = DataSetRecord(name='toy', open='{}')\n"
SOUND = RECORD.format("json:loads")


@pytest.mark.parametrize(
    ("source", "distributions", "words"),
    [
        ("import nowhere_to_be_found", {"broken": "toy = MODULE:TOY"}, "broken 1.0.*nowhere_to_be_found"),
        ("raise RuntimeError('two\\nlines')", {"broken": "toy = MODULE:TOY"}, "broken 1.0.*two lines"),
        ("", {"broken": "toy = MODULE:TOY"}, "broken 1.0.*AttributeError"),
        ("TOY = 'toy'", {"broken": "toy = MODULE:TOY"}, "broken 1.0.*is a str, not a DataSetRecord"),
        (SOUND, {"broken": "tow = MODULE:TOY"}, 'broken 1.0.*has the name "toy"'),
        (SOUND, {"broken": "../toy = MODULE:TOY"}, "broken 1.0.*may contain letters"),
        (SOUND, {"broken": "mnist = MODULE:TOY"}, 'broken 1.0.*"mnist", which is built in; uninstall'),
        (
            SOUND,
            {"one": "toy = MODULE:TOY", "two": "toy = MODULE:TOY"},
            "(one|two) 1.0 and (one|two) 1.0 both register",
        ),
        (SOUND.replace("open", "classes=('a',), open"), {"broken": "toy = MODULE:TOY"}, "broken 1.0.*read_labels"),
        (RECORD.format("nowhere_to_be_found:f"), {"broken": "toy = MODULE:TOY"}, "broken 1.0.*its open.*nowhere_to"),
        (RECORD.format("json:dumbs"), {"broken": "toy = MODULE:TOY"}, "broken 1.0.*its open.*dumbs"),
        (RECORD.format("sys:path"), {"broken": "toy = MODULE:TOY"}, "broken 1.0.*its open.*is a list, not a Callable"),
        (SOUND, {"fine": "toy = MODULE:TOY"}, ""),
    ],
)
def test_broken_plugin_is_refused_in_one_line_naming_its_distribution(
    registry: Any, source: str, distributions: dict[str, str], words: str
) -> None:
    from collections.abc import Callable

    data_sets = registry(source, **distributions)
    name = next(iter(distributions.values())).partition(" = ")[0]
    name = "other" if name in DATA_SETS.built_in else name
    if not words:
        assert data_sets.load(name, "open", Callable) is json.loads
        assert [record.name for record in data_sets] == [*DATA_SETS.built_in, "toy"]
        return
    with pytest.raises(UserError, match=words) as caught:
        data_sets.load(name, "open", Callable)
    assert str(caught.value).isprintable()
    assert data_sets["mnist"] is DATA_SETS["mnist"], "what is built in needs no plugin"


def test_unknown_name_is_refused_with_known_and_nearest_names(registry: Any) -> None:
    data_sets = registry(SOUND, fine="toy = MODULE:TOY")
    with pytest.raises(
        UserError, match=r"data\.name = \"toys\".*mnist-mini, mnist, .* folder, shards, huggingface or toy.*mean toy\?"
    ):
        data_sets["toys"]


def test_every_built_in_record_can_be_loaded() -> None:
    for registry, fields in (
        (DATA_SETS, ("open", "read_labels", "read_factors")),
        (FAMILIES, ("module",)),
        (ADVERSARIAL_LOSSES, ("implementation",)),
        (METRICS, ("implementation",)),
    ):
        for name, record in registry.built_in.items():  # type: ignore[attr-defined]
            named = [field for field in fields if getattr(record, field)]
            assert named, name
            for field in named:
                assert registry.load(name, field) is not None


def test_torchvision_data_sets_have_its_classes() -> None:
    from torchvision import datasets

    from infogan_dist.data.torchvision_layouts import LAYOUTS

    named = [record for record in DATA_SETS.built_in.values() if record.torchvision]
    assert {record.torchvision for record in named} == set(LAYOUTS)
    of_mnist = [record for record in named if record.open.endswith("open_mnist_layout")]
    assert len(of_mnist) == 3
    for record in of_mnist:
        classes = getattr(datasets, record.torchvision).classes
        assert record.classes == tuple(re.sub(r" - .*", "", name) for name in classes)
