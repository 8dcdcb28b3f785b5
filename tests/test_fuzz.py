"""Whatever stands in a file that the package reads, the user meets one printable line, and soon."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from infogan_dist.checkpoints import store as checkpoints
from infogan_dist.checkpoints.resume import admit
from infogan_dist.checkpoints.run_folder import read_metrics
from infogan_dist.checkpoints.store import Damaged
from infogan_dist.config.reading import dotted, load_config
from infogan_dist.config.schema import Config
from infogan_dist.errors import InfoganError, NoUsableCheckpoint, UserError
from tests.conftest import ROOT, tiny

SOON = settings(
    max_examples=150, deadline=10_000, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
SHIPPED = [path.read_text() for path in sorted((ROOT / "configs").glob("*.yaml"))]
KEYS = sorted({word for key in dotted(load_config("debug")) for word in key.split(".")})

plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(KEYS)
words = st.sampled_from(KEYS) | st.text(max_size=5) | st.integers()
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4), max_leaves=12
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)

LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "\n".join(
    f"{new}: &{new} [{','.join(f'*{old}' for _ in range(9))}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


def in_one_line(error: InfoganError) -> None:
    message = str(error)
    assert message
    assert message.isprintable(), ascii(message)


def read(folder: Path, content: bytes, *overrides: str) -> None:
    path = folder / "a.yaml"
    path.write_bytes(content)
    try:
        assert isinstance(load_config(path, overrides), Config)
    except UserError as error:
        in_one_line(error)


@SOON
@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(LAUGHS.encode())
@example(b"output: &a [*a]")
@example(b"output: x\ntrain: &a\n  steps: *a\n")
@example(b"seed: !!bool x")
@example(b"seed: !!timestamp x")
@example(b"seed: " + b"9" * 5000)
@example(b"output: " + b"[" * 800)
@example(b"output: !!binary '='")
@example(b'"a\\nb": 1')
def test_any_file_as_a_config(tmp_path: Path, content: bytes) -> None:
    read(tmp_path, content)


@SOON
@given(st.dictionaries(words, values, max_size=5))
def test_any_values_as_a_config(tmp_path: Path, found: dict[Any, Any]) -> None:
    read(tmp_path, yaml.safe_dump(found, allow_unicode=True).encode("utf-8", "surrogatepass"))


@SOON
@given(st.sampled_from(SHIPPED), st.integers(0, 400), st.binary(min_size=1, max_size=3))
def test_a_config_with_a_few_other_bytes(tmp_path: Path, text: str, at: int, other: bytes) -> None:
    content = text.encode()
    read(tmp_path, content[:at] + other + content[at + len(other) :])


@SOON
@given(
    st.lists(st.text(max_size=20) | st.builds("{}={}".format, st.sampled_from(KEYS), st.text(max_size=8)), max_size=3)
)
def test_any_overrides(tmp_path: Path, overrides: list[str]) -> None:
    read(tmp_path, b"output: x", *overrides)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    config = tiny(folder / "run").model_dump(mode="json")
    state = {"G": {"w": torch.ones(2, 3)}, "D": {"w": torch.arange(5.0)}}
    return checkpoints.save(folder / "run" / "checkpoints", state, {"step": 2, "config": config, "scaler": {}})


def tried(path: Path) -> None:
    """Read a checkpoint in every way; what goes wrong is said in one line."""
    try:
        checkpoints.verify(path).load()
    except Damaged as damage:
        in_one_line(NoUsableCheckpoint(str(damage)))
    try:
        admit(tiny(path.parents[1]), "auto", torch.device("cpu"))
    except (UserError, NoUsableCheckpoint) as error:
        in_one_line(error)


def copy_of(sound: Path, folder: Path) -> Path:
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(sound.parents[1], run)
    return run / "checkpoints" / sound.name


@SOON
@given(st.binary(max_size=100) | json_values.map(lambda value: json.dumps(value).encode()))
@example(b"[" * 10_000)
def test_any_file_as_a_manifest(sound: Path, tmp_path: Path, content: bytes) -> None:
    path = copy_of(sound, tmp_path)
    (path / "manifest.json").write_bytes(content)
    tried(path)


@SOON
@given(st.data())
def test_a_manifest_with_other_facts(sound: Path, tmp_path: Path, data: st.DataObject) -> None:
    path = copy_of(sound, tmp_path)
    manifest = json.loads((path / "manifest.json").read_text())
    place = manifest
    while data.draw(st.booleans()) and isinstance(place, dict) and place:
        inner = place[data.draw(st.sampled_from(sorted(place)))]
        if not isinstance(inner, dict) or not inner:
            break
        place = inner
    key = data.draw(st.sampled_from(sorted(place)) | st.text(max_size=8))
    place[key] = data.draw(json_values)
    (path / "manifest.json").write_text(json.dumps(manifest))
    tried(path)


@SOON
@given(st.integers(0, 150), st.binary(min_size=1, max_size=8))
def test_tensors_with_a_few_other_bytes_and_a_manifest_that_agrees(
    sound: Path, tmp_path: Path, at: int, other: bytes
) -> None:
    path = copy_of(sound, tmp_path)
    content = (path / "G.safetensors").read_bytes()
    content = content[:at] + other + content[at + len(other) :]
    (path / "G.safetensors").write_bytes(content)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["G.safetensors"] |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (path / "manifest.json").write_text(json.dumps(manifest))
    tried(path)


@SOON
@given(st.binary(max_size=300))
def test_any_file_as_metrics(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(content)
    assert all(isinstance(row["step"], int) for row in read_metrics(tmp_path / "metrics.jsonl"))
