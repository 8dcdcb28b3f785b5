"""ONNX files: the same numbers as torch, from few operators, where there is no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from infogan_dist import Generator, Recognizer
from infogan_dist.config.reading import load_config
from infogan_dist.errors import UserError
from infogan_dist.export import onnx
from infogan_dist.export.model import Model
from infogan_dist.networks import build_networks
from tests.conftest import clean_environment, tiny
from tests.export.paths import places_in

ABSENT = "the extra onnx is not installed"
onnx_library, ort = pytest.importorskip("onnx", reason=ABSENT), pytest.importorskip("onnxruntime", reason=ABSENT)
pytest.importorskip("onnxscript", reason=ABSENT)
BATCHES = (1, 3, 64)

WITHOUT_TORCH = """
import sys
for name in ("torch", "infogan_dist"):
    sys.modules[name] = None
import json
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession("G.onnx", providers=["CPUExecutionProvider"])
said = session.get_modelmeta().custom_metadata_map
latents = np.zeros((5, json.loads(said["infogan_dist.latents"])[-1]["columns"][1]), np.float32)
for column in json.loads(said["infogan_dist.latents"]):
    first, last = column["columns"]
    if column["name"] == "categorical_0":
        latents[:, first + 7] = 1
np.save("images.npy", session.run(["images"], {"latents": latents})[0])
names = json.loads(said["infogan_dist.code_names"])["labels"]
assert names == {"0": 7, "2": 4}, names
assert json.loads(said["infogan_dist"])["networks"]["family"] == "paper28"
"""


def model_of(*overrides: str) -> Model:
    """Networks that have not trained."""
    config = tiny("x", *overrides)
    networks = build_networks(config)
    return Model(Generator(networks.G_ema, config), Recognizer(networks.FE, networks.Q, config))


@pytest.fixture(scope="module")
def written(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of G.onnx and G-recognizer.onnx."""
    out = tmp_path_factory.mktemp("onnx") / "G.onnx"
    assert onnx.write(Model.from_pretrained(str(run), with_q=True), out, torch.float32) == [
        out,
        out.with_name("G-recognizer.onnx"),
    ]
    return out.parent


def test_any_batch_gives_the_numbers_of_torch(run: Path, written: Path) -> None:
    G, Q = Generator.from_pretrained(run), Recognizer.from_pretrained(run)
    draws, reads = (ort.InferenceSession(written / name) for name in ("G.onnx", "G-recognizer.onnx"))
    for batch in BATCHES:
        latents = G.latents_at(torch.arange(batch), 3)
        images = G.draw(latents)
        (drawn,) = draws.run(None, {"latents": G.spec.vector(latents).numpy()})
        assert np.abs(drawn - images.numpy()).max() < 1e-4
        posterior = Q.posterior(images)
        expected = torch.cat([*posterior.logits, posterior.mean, posterior.log_variance], dim=1)
        (read,) = reads.run(None, {"images": images.numpy()})
        assert np.abs(read - expected.numpy()).max() < 1e-4


def test_it_runs_where_torch_is_not_importable(run: Path, written: Path) -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH], cwd=written, env=clean_environment(), check=True)
    G = Generator.from_pretrained(run)
    codes = G.spec.with_values(G.spec.neutral_codes(5), {"categorical_0": 7})
    latents = G.spec.vector(G.latents_at(torch.arange(5), 0))
    latents[:] = 0
    latents[:, G.spec.noise_dim + codes.categorical[:, 0]] = 1
    with torch.no_grad():
        expected = G.network(latents)
    assert np.abs(np.load(written / "images.npy") - expected.numpy()).max() < 1e-4


def test_the_metadata_name_every_column(written: Path) -> None:
    said = ort.InferenceSession(written / "G-recognizer.onnx").get_modelmeta().custom_metadata_map
    assert said["infogan_dist.networks"] == "FE,Q"
    columns = json.loads(said["infogan_dist.posterior"])
    assert [(each["name"], each["values"]) for each in columns] == [
        ("categorical_0", "logits"),
        ("categorical_1", "logits"),
        *((f"continuous_{number}", kind) for kind in ("mean", "log-variance") for number in (0, 1)),
    ]
    assert [each["columns"][0] for each in columns[1:]] == [each["columns"][1] for each in columns[:-1]]


def test_g_of_paper28_has_few_nodes_of_the_standard_alone(written: Path) -> None:
    proto = onnx_library.load(written / "G.onnx")
    onnx_library.checker.check_model(proto, full_check=True)
    assert len(proto.graph.node) <= 15
    assert {node.domain for node in proto.graph.node} == {""}
    assert [domain.version for domain in proto.opset_import] == [20]
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_no_path_is_in_it(written: Path) -> None:
    assert places_in(written) == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_halves_the_file_and_keeps_inputs_and_outputs(tmp_path: Path, dtype: torch.dtype) -> None:
    G = model_of("networks.width=8").G
    onnx.write(Model(G), tmp_path / "G.onnx", dtype)
    G.save(tmp_path / "G.safetensors")
    assert (tmp_path / "G.onnx").stat().st_size < 0.65 * (tmp_path / "G.safetensors").stat().st_size
    session = ort.InferenceSession(tmp_path / "G.onnx")
    assert {each.type for each in (*session.get_inputs(), *session.get_outputs())} == {"tensor(float)"}


def test_other_families_and_spectral_norms(tmp_path: Path) -> None:
    model = model_of("networks={family: dcgan, width: 4, norm_D: spectral}", "data.image_size=32")
    onnx.write(model, tmp_path / "G.onnx", torch.float32)
    (images,) = ort.InferenceSession(tmp_path / "G.onnx").run(
        None, {"latents": np.zeros((2, model.G.spec.dim), np.float32)}
    )
    assert images.shape == (2, 1, 32, 32)


def test_nothing_is_written_where_onnxruntime_computes_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(proto: Any) -> Any:
        for initializer in proto.graph.initializer:
            if initializer.name == "lift.weight":
                array = onnx_library.numpy_helper.to_array(initializer) + 0.1
                initializer.CopyFrom(onnx_library.numpy_helper.from_array(array, initializer.name))
        return proto

    monkeypatch.setattr(onnx, "_without_paths", damaged)
    with pytest.raises(
        UserError, match=r"computes G\.onnx with a difference of .* at a batch of 1; it was not written"
    ):
        onnx.write(Model(model_of().G), tmp_path / "G.onnx", torch.float32)
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "NEEDED", ("onnx", "a_package_that_is_not_there"))
    with pytest.raises(UserError, match=r"pip install 'infogan-dist\[onnx\]'"):
        onnx.write(Model(model_of().G), tmp_path / "G.onnx", torch.float32)


def test_the_examples_hold_the_config_of_debug() -> None:
    """Two categorical and two continuous codes, so that the columns above mean something."""
    latents = load_config("debug", []).latents
    assert (len(latents.categorical), latents.continuous) == (2, 2)
