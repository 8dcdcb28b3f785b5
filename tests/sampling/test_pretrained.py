"""Models apart from their runs: what the file of one holds, and where one is read from."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from infogan_dist import Generator, Recognizer
from infogan_dist.errors import UserError
from infogan_dist.evaluation.code_names import names_of
from infogan_dist.sampling import pretrained
from infogan_dist.sampling.hub import is_repo
from infogan_dist.training.loop import train
from tests.conftest import ONE_PROCESS, ROOT, clean_environment, tiny

NAMES = {"code": "categorical_0", "labels": {"0": 7, "2": 4}, "code_error": 0.1, "data": "mnist", "step": 6}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("pretrained") / "run"
    train(tiny(output, "train.precision=fp32"), ONE_PROCESS)
    (output / "code_names.json").write_text(json.dumps(NAMES))
    return output


def header_of(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        found: dict[str, str] = file.metadata()
    return found


def test_a_file_holds_the_three_networks_under_their_names(run: Path, tmp_path: Path) -> None:
    model = pretrained.load(run, "G", "FE", "Q")
    pretrained.save(model, tmp_path / "model.safetensors")
    read = pretrained.load(tmp_path / "model.safetensors", "Q", "G", "FE")
    assert read.provenance == model.provenance == pretrained.Provenance(6, 72, json.dumps(NAMES))
    for name in ("G", "FE", "Q"):
        assert read.tensors[name].keys() == model.tensors[name].keys()
        assert all(torch.equal(read.tensors[name][key], tensor) for key, tensor in model.tensors[name].items())
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        assert {key.partition(".")[0] for key in file.keys()} == {"G", "FE", "Q"}  # noqa: SIM118 - no mapping


def test_the_header_describes_the_model_to_other_readers(run: Path, tmp_path: Path) -> None:
    Generator.from_pretrained(run).save(str(tmp_path / "G.safetensors"))
    header = header_of(tmp_path / "G.safetensors")
    assert header["format"] == "pt"
    assert header["infogan_dist.networks"] == "G"
    assert header["infogan_dist.step"] == "6"
    spec = {key.removeprefix("modelspec."): value for key, value in header.items() if key.startswith("modelspec.")}
    assert spec == {
        "sai_model_spec": "1.0.1",
        "architecture": "infogan/paper28",
        "implementation": "infogan_dist",
        "title": "InfoGAN (paper28) on mnist-mini, step 6",
        "resolution": "28x28",
    }


def test_names_of_codes_travel(run: Path, tmp_path: Path) -> None:
    Generator.from_pretrained(run).save(tmp_path / "G.safetensors")
    Generator.from_pretrained(tmp_path / "G.safetensors").save(tmp_path / "again.safetensors")
    assert names_of(run) is not None
    assert names_of(tmp_path / "again.safetensors") == names_of(run)
    before = run / "checkpoints" / "step-00000004"
    assert names_of(before) is None  # they are of another step
    Generator.from_pretrained(before).save(tmp_path / "before.safetensors")
    assert names_of(tmp_path / "before.safetensors") is None


def test_a_file_without_q_says_how_to_get_one(run: Path, tmp_path: Path) -> None:
    Generator.from_pretrained(run).save(tmp_path / "G.safetensors")
    with pytest.raises(UserError, match=r"G\.safetensors holds G alone, no FE and no Q; .*--with-q"):
        Recognizer.from_pretrained(tmp_path / "G.safetensors")


def test_files_of_the_first_version_are_read(run: Path, tmp_path: Path) -> None:
    """Their tensors have no prefix, and the config is all that the header holds."""
    G = Generator.from_pretrained(run)
    old = tmp_path / "old.safetensors"
    save_file(dict(G.network.state_dict()), old, metadata={"infogan_dist": G.config.model_dump_json()})
    assert torch.equal(Generator.from_pretrained(old).sample(3, seed=0), G.sample(3, seed=0))
    with pytest.raises(UserError, match="holds G alone"):
        Recognizer.from_pretrained(old)


@pytest.mark.parametrize("networks", ["", "Q", "GG,FE", "x" * 10_000])
def test_a_header_that_names_no_g_is_refused(run: Path, tmp_path: Path, networks: str) -> None:
    path = tmp_path / "G.safetensors"
    metadata = {"infogan_dist": tiny("x").model_dump_json(), "infogan_dist.networks": networks}
    save_file({"w": torch.ones(1)}, path, metadata=metadata)
    with pytest.raises(UserError, match="no G") as caught:
        Generator.from_pretrained(path)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
def test_half_precision_halves_the_file_and_computes_in_float32(
    run: Path, tmp_path: Path, dtype: torch.dtype, bound: float
) -> None:
    model = pretrained.load(run, "G", "FE", "Q")
    pretrained.save(model, tmp_path / "full.safetensors")
    pretrained.save(model, tmp_path / "half.safetensors", dtype)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "full")]
    assert sizes[0] < 0.6 * sizes[1]
    half, full = (Generator.from_pretrained(tmp_path / f"{name}.safetensors") for name in ("half", "full"))
    difference = (half.sample(4, seed=0) - full.sample(4, seed=0)).abs().max()
    assert 0 < difference < bound
    assert half.network.state_dict()["lift.weight"].dtype == torch.float32
    assert (
        Recognizer.from_pretrained(tmp_path / "half.safetensors").posterior(full.sample(2, seed=0)).mean.shape[0] == 2
    )


def test_a_number_too_large_for_half_precision_is_refused(run: Path, tmp_path: Path) -> None:
    model = pretrained.load(run, "G")
    model.tensors["G"]["up_norm.running_var"][0] = 1e6
    with pytest.raises(
        UserError, match=r"G\.up_norm\.running_var holds 1e\+06, too large for torch\.float16; use --dtype bf16"
    ):
        pretrained.save(model, tmp_path / "G.safetensors", torch.float16)
    assert list(tmp_path.iterdir()) == []
    pretrained.save(model, tmp_path / "G.safetensors", torch.bfloat16)


@pytest.mark.parametrize("name", ["G.pt", "G", "G.bin"])
def test_a_file_has_its_ending(run: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="does not end in"):
        Generator.from_pretrained(run).save(tmp_path / name)
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(UserError, match=r"does not end in \.safetensors; give .*convert --from"):
        Generator.from_pretrained(tmp_path / name)


def test_only_what_cannot_be_a_path_here_is_a_hub_repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert is_repo("user/name-1.x")
    for path in ("runs/mnist", "name", "/user/name", "./name", "a/b/c", "user/", "../x", "user/na me"):
        assert not is_repo(path), path
    with pytest.raises(UserError, match="there is no runs/mnist; give"):
        Generator.from_pretrained("runs/mnist")


def test_drawing_and_reading_codes_need_no_torchvision(run: Path, tmp_path: Path) -> None:
    pretrained.save(pretrained.load(run, "G", "FE", "Q"), tmp_path / "model.safetensors")
    code = (
        "import sys\n"
        "sys.modules['torchvision'] = None\n"
        "from infogan_dist import Generator, Recognizer\n"
        "for path in sys.argv[1:]:\n"
        "    images = Generator.from_pretrained(path).to('cpu').sample(3, seed=0, categorical_0=1)\n"
        "    assert Recognizer.from_pretrained(path).to('cpu').codes(images).categorical.shape[0] == 3\n"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(run), "model.safetensors"],
        cwd=tmp_path,
        env=clean_environment(PYTHONPATH=str(ROOT)),
        check=True,
    )
