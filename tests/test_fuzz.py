"""For any content of a file that the package reads, the user gets one printable line, within seconds."""

from __future__ import annotations

import faulthandler
import hashlib
import json
import math
import os
import shutil
import signal
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from infogan_dist import Generator
from infogan_dist.__main__ import main
from infogan_dist.checkpoints import store as checkpoints
from infogan_dist.checkpoints.manifest import with_checksum
from infogan_dist.checkpoints.resume import decide_resume, who_writes_in
from infogan_dist.checkpoints.run_folder import finite, read_metrics
from infogan_dist.checkpoints.store import Damaged
from infogan_dist.config.reading import dotted, dump_config, load_config
from infogan_dist.config.running import ProcessesConfig
from infogan_dist.config.schema import Config
from infogan_dist.distributed.group import Group
from infogan_dist.errors import InfoganError, NoUsableCheckpoint, UserError
from infogan_dist.evaluation import reference_classifier as classifier
from infogan_dist.evaluation.code_names import names_of
from infogan_dist.evaluation.evaluated_model import from_checkpoint
from infogan_dist.evaluation.runs import failure
from infogan_dist.latents import LatentSpec
from infogan_dist.networks import build_networks
from infogan_dist.sampling.curves import write_curves
from infogan_dist.training.collapse import collapse_warnings
from tests.config.test_config import INTEGER_KEYS
from tests.conftest import ONE_PROCESS, ROOT, tiny

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
def test_config_of_any_bytes(tmp_path: Path, content: bytes) -> None:
    read(tmp_path, content)


@SOON
@given(st.dictionaries(words, values, max_size=5))
def test_config_of_any_values(tmp_path: Path, found: dict[Any, Any]) -> None:
    read(tmp_path, yaml.safe_dump(found, allow_unicode=True).encode("utf-8", "surrogatepass"))


@SOON
@given(st.sampled_from(SHIPPED), st.integers(0, 400), st.binary(min_size=1, max_size=3))
def test_config_with_changed_bytes(tmp_path: Path, text: str, at: int, other: bytes) -> None:
    content = text.encode()
    read(tmp_path, content[:at] + other + content[at + len(other) :])


@SOON
@given(
    st.lists(st.text(max_size=20) | st.builds("{}={}".format, st.sampled_from(KEYS), st.text(max_size=8)), max_size=3)
)
def test_any_overrides(tmp_path: Path, overrides: list[str]) -> None:
    read(tmp_path, b"output: x", *overrides)


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("valid")
    config = tiny(folder / "run").model_dump(mode="json")
    state = {"G": {"w": torch.ones(2, 3)}, "D": {"w": torch.arange(5.0)}}
    return checkpoints.save(folder / "run" / "checkpoints", state, {"step": 2, "config": config, "scaler": {}})


def tried(path: Path) -> None:
    """Read a checkpoint in every way. An error must be one line."""
    try:
        checkpoints.verify(path).load()
    except Damaged as damage:
        in_one_line(NoUsableCheckpoint(str(damage)))
    try:
        decide_resume(tiny(path.parents[1]), "auto", torch.device("cpu"))
    except (UserError, NoUsableCheckpoint) as error:
        in_one_line(error)


def copy_of(valid: Path, folder: Path) -> Path:
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(valid.parents[1], run)
    return run / "checkpoints" / valid.name


@SOON
@given(st.binary(max_size=100) | json_values.map(lambda value: json.dumps(value).encode()))
@example(b"[" * 10_000)
def test_manifest_of_any_bytes(valid: Path, tmp_path: Path, content: bytes) -> None:
    path = copy_of(valid, tmp_path)
    (path / "manifest.json").write_bytes(content)
    tried(path)


@SOON
@given(st.data())
def test_manifest_with_changed_values(valid: Path, tmp_path: Path, data: st.DataObject) -> None:
    path = copy_of(valid, tmp_path)
    manifest = json.loads((path / "manifest.json").read_text())
    place = manifest
    while data.draw(st.booleans()) and isinstance(place, dict) and place:
        inner = place[data.draw(st.sampled_from(sorted(place)))]
        if not isinstance(inner, dict) or not inner:
            break
        place = inner
    key = data.draw(st.sampled_from(sorted(place)) | st.text(max_size=8))
    place[key] = data.draw(json_values | st.integers(-(2**70), 2**70))
    (path / "manifest.json").write_text(json.dumps(with_checksum(manifest)))
    tried(path)


def agree(path: Path, name: str, content: bytes) -> None:
    """Update the manifest to match the content of a file."""
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"][name] |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (path / "manifest.json").write_text(json.dumps(with_checksum(manifest)))


@SOON
@given(st.integers(0, 150), st.binary(min_size=1, max_size=8))
def test_tensors_with_changed_bytes_and_a_matching_manifest(valid: Path, tmp_path: Path, at: int, other: bytes) -> None:
    path = copy_of(valid, tmp_path)
    content = (path / "G.safetensors").read_bytes()
    content = content[:at] + other + content[at + len(other) :]
    (path / "G.safetensors").write_bytes(content)
    agree(path, "G.safetensors", content)
    tried(path)


@SOON
@given(st.binary(max_size=300))
def test_metrics_of_any_bytes(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(content)
    assert all(isinstance(row["step"], int) for row in read_metrics(tmp_path / "metrics.jsonl"))


COUNTS = st.integers(-1, 2**70) | st.sampled_from([0, 1, 2**31, 2**53, 2**63 - 1, 2**63, 10**400])


@SOON
@given(st.sampled_from(INTEGER_KEYS), COUNTS)
def test_config_with_any_integer_in_any_key(tmp_path: Path, key: str, value: int) -> None:
    read(tmp_path, b"output: x", f"{key}={value}")


def without(place: dict[str, Any], data: st.DataObject) -> None:
    """Remove keys from a mapping or a nested one."""
    for key in data.draw(st.lists(st.sampled_from(sorted(place)), min_size=1, max_size=3)):
        if isinstance(place.get(key), dict) and place[key] and data.draw(st.booleans()):
            without(place[key], data)
        else:
            place.pop(key, None)


@settings(SOON, max_examples=40)  # each joins a group and draws images
@given(st.data())
def test_manifest_with_missing_keys(model: Path, tmp_path: Path, data: st.DataObject) -> None:
    path = copy_of(model, tmp_path)
    manifest = json.loads((path / "manifest.json").read_text())
    without(manifest, data)
    keeps_checksum = data.draw(st.booleans())
    (path / "manifest.json").write_text(json.dumps(manifest if keeps_checksum else with_checksum(manifest)))
    tried(path)
    used(path)


ROW = {"kind": "train", "step": 2, "images_seen": 24, "loss/D": 1.5, "mi/categorical_0": 0.1, "health/diversity": None}
json_numbers = st.integers(-(2**70), 2**70) | st.floats() | st.just(10**400)


@SOON
@given(
    st.lists(
        st.fixed_dictionaries(
            {}, optional={key: st.just(value) | json_values | json_numbers for key, value in ROW.items()}
        ),
        max_size=4,
    )
)
@example([{key: value for key, value in ROW.items() if key != "kind"}])
@example([{key: value for key, value in ROW.items() if key != "images_seen"}])
@example([{**ROW, "loss/D": "high"}])
@example([{**ROW, "health/diversity": 10**400}])
def test_metrics_rows_with_missing_keys_and_other_values(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    """Every reader of rows accepts what `read_metrics` accepts."""
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_metrics(path)
    assert all({"kind", "step", "images_seen"} <= row.keys() for row in found)
    trained = [row for row in found if row["kind"] == "train"]
    config = tiny(tmp_path / "run", "collapse.rows=1", "collapse.after_images=0")
    collapse_warnings(trained, LatentSpec.from_config(config.latents), config.objective, config.collapse)
    json.dumps(finite(found))
    if found:
        write_curves(found, tmp_path / "curves.png")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of an untrained run."""
    folder = tmp_path_factory.mktemp("model")
    config = tiny(folder / "run", "train.precision=fp32")
    state = {name: dict(network.state_dict()) for name, network in build_networks(config).named().items()}
    facts = {"step": 2, "images_seen": 24, "config": config.model_dump(mode="json"), "scaler": {}, "bad_steps": {}}
    path = checkpoints.save(folder / "run" / "checkpoints", state, facts)
    (folder / "run" / "config.yaml").write_text(dump_config(config))
    (folder / "run" / "metrics.jsonl").write_text(json.dumps(ROW) + "\n")
    (folder / "run" / "FAILED").write_text("why\n")
    (folder / "run" / ".lock").write_text("process 1 on a host\n")
    names = {"code": "categorical_0", "labels": {"0": 7}, "code_error": 0.1, "data": "mnist-mini", "step": 2}
    (folder / "run" / "code_names.json").write_text(json.dumps(names))
    return path


def used(path: Path) -> None:
    """Use a checkpoint and its run as the commands do. An error must be one line."""
    run = path.parents[1]
    for use in (
        lambda: Generator.from_pretrained(run).sample(1, seed=0),
        lambda: Generator.from_pretrained(path).sample(1, seed=0),
        lambda: evaluated(path),
        lambda: names_of(run),
        lambda: failure(run, {}),
        lambda: read_metrics(run / "metrics.jsonl"),
        lambda: load_config(run / "config.yaml"),
        lambda: who_writes_in(run),
    ):
        try:
            use()
        except (UserError, NoUsableCheckpoint) as error:
            in_one_line(error)


def evaluated(path: Path) -> None:
    with Group(ONE_PROCESS, 1, ProcessesConfig()) as group:
        from_checkpoint(path, group)


READ = (
    *("config.yaml", "metrics.jsonl", "code_names.json", "FAILED", ".lock"),
    *("checkpoints/step-00000002/manifest.json", "checkpoints/step-00000002/G_ema.safetensors"),
    *("checkpoints/step-00000002", "checkpoints"),
)
SPECIAL: dict[str, Callable[[Path], object]] = {
    "a FIFO": os.mkfifo,
    "an endless device": lambda path: path.symlink_to("/dev/zero"),
    "an empty device": lambda path: path.symlink_to("/dev/null"),
    "a folder": Path.mkdir,
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a sparse file larger than memory": lambda path: (path.touch(), os.truncate(path, 2**42)),
}


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("name", READ)
def test_special_file_in_place_of_each_file_of_a_run(model: Path, tmp_path: Path, name: str, kind: str) -> None:
    path = copy_of(model, tmp_path)
    place = tmp_path / "run" / name
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink()
    SPECIAL[kind](place)
    with within(seconds=30):
        tried(path)
        used(path)


@pytest.mark.parametrize("kind", SPECIAL)
def test_special_file_in_place_of_an_export_or_a_config(tmp_path: Path, kind: str) -> None:
    for name, use in {"G.safetensors": Generator.from_pretrained, "a.yaml": load_config}.items():
        SPECIAL[kind](tmp_path / name)
        with within(seconds=30), pytest.raises(UserError) as caught:
            use(tmp_path / name)
        in_one_line(caught.value)


@pytest.mark.parametrize("kind", SPECIAL)
def test_special_file_in_place_of_the_cached_reference_classifier(tmp_path: Path, kind: str) -> None:
    SPECIAL[kind](tmp_path / "classifier.safetensors")
    with within(seconds=30):
        assert classifier._cached(tmp_path / "classifier.safetensors") is None


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Fails if the block takes longer. If it hangs outside Python, where no handler runs, the process ends."""

    def fail(*_: object) -> NoReturn:
        raise AssertionError(f"no end after {seconds} s")

    earlier = signal.signal(signal.SIGALRM, fail)
    signal.alarm(seconds)
    faulthandler.dump_traceback_later(2 * seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, earlier)


DTYPES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
    **{"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F128": 128},
}


def forged(shapes: dict[str, list[int]], dtype: str, metadata: dict[str, str]) -> bytes:
    """A safetensors file of zeros in any dtype, written by the format's specification."""
    header: dict[str, Any] = {"__metadata__": metadata}
    start = 0
    for name, shape in shapes.items():
        end = start + math.prod(shape) * DTYPES[dtype] // 8
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
        start = end
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(start)


@pytest.mark.parametrize("dtype", DTYPES)
def test_exports_and_checkpoints_with_tensors_of_every_dtype(model: Path, tmp_path: Path, dtype: str) -> None:
    path = copy_of(model, tmp_path)
    config = json.loads((path / "manifest.json").read_text())["config"]
    shapes = json.loads((path / "manifest.json").read_text())["files"]["G_ema.safetensors"]["shapes"]
    content = forged(shapes, dtype, {"infogan_dist": json.dumps(config)})
    exported = tmp_path / "G.safetensors"
    exported.write_bytes(content)
    (path / "G_ema.safetensors").write_bytes(content)
    agree(path, "G_ema.safetensors", content)
    tried(path)
    used(path)
    try:
        assert Generator.from_pretrained(exported).sample(1, seed=0).shape == (1, 1, 28, 28)
    except UserError as error:
        in_one_line(error)
    else:
        assert dtype in ("F16", "BF16", "F32", "F64")


@SOON
@given(json_values.map(json.dumps) | st.text(max_size=30))
@example("[]")
@example("[" * 100_000)
def test_export_with_any_text_as_its_header(tmp_path: Path, header: str) -> None:
    path = tmp_path / "G.safetensors"
    path.write_bytes(forged({"w": [2]}, "F32", {"infogan_dist": header.encode("utf-8", "replace").decode()}))
    with pytest.raises(UserError) as caught:
        Generator.from_pretrained(path)
    in_one_line(caught.value)


@SOON
@given(json_values.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60))
@example(json.dumps({"code": "a", "labels": {"9" * 30: 3}, "code_error": 0, "data": "", "step": 2}).encode())
def test_code_names_of_any_bytes(model: Path, tmp_path: Path, content: bytes) -> None:
    path = copy_of(model, tmp_path)
    (path.parents[1] / "code_names.json").write_bytes(content)
    with pytest.raises(UserError) as caught:
        names_of(path.parents[1])
    in_one_line(caught.value)


@pytest.mark.parametrize(
    "text", ["a" * 300, "a/" * 4000, "", "a\0b", "\ud800"], ids=["long", "deep", "empty", "NUL", "lone"]
)
def test_path_without_a_file(text: str) -> None:
    for use in (Generator.from_pretrained, load_config, lambda path: load_config("debug", [f"output='{path}'"])):
        with pytest.raises(UserError) as caught:
            use(text)
        in_one_line(caught.value)
    if "\0" not in text and text.isascii():
        for command in (["sample", text, "--out", "x.png"], ["sample", "x", "--out", text or "\t/" * 4000]):
            assert main(command) == 2
