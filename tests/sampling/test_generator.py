from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from infogan_dist import Generator
from infogan_dist.errors import NoUsableCheckpoint, UserError
from infogan_dist.training.loop import train
from tests.conftest import ONE_PROCESS, Command, tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("generator") / "run"
    train(tiny(output, "train.precision=fp32"), ONE_PROCESS)
    return output


def test_images_have_the_promised_form(run: Path) -> None:
    images = Generator.from_pretrained(run).sample(3, seed=0)
    assert images.shape == (3, 1, 28, 28)
    assert images.dtype == torch.float32
    assert images.abs().max() <= 1


def test_an_image_depends_on_seed_and_index_alone(run: Path) -> None:
    G = Generator.from_pretrained(run)
    assert torch.equal(G.sample(100, seed=1)[:2], G.sample(2, seed=1))
    assert not torch.equal(G.sample(2, seed=1), G.sample(2, seed=2))
    assert not torch.equal(G.sample(2), G.sample(2))


@pytest.mark.parametrize("processes", [2, 3])
def test_any_number_of_processes_draws_the_same_images(
    run: Path, infogan: Command, tmp_path: Path, processes: int
) -> None:
    written = {}
    for count in (1, processes):
        result = infogan("sample", run, "--out", f"{count}.npz", "--count", 150, processes=count)
        assert result.returncode == 0, result.stderr
        written[count] = np.load(tmp_path / f"{count}.npz")["images"]
    assert written[1].shape == (150, 28, 28, 1)
    assert np.array_equal(written[1], written[processes])


def test_codes_are_held_and_the_rest_stays(run: Path) -> None:
    G = Generator.from_pretrained(run)
    held = G.sample(4, seed=0, categorical_0=7, continuous_1=0.5)
    assert torch.equal(held, G.sample(4, seed=0, categorical_0=7, continuous_1=0.5))
    assert not torch.equal(held, G.sample(4, seed=0, categorical_0=6, continuous_1=0.5))
    with pytest.raises(UserError, match="there is no code digit"):
        G.sample(1, digit=3)


def test_a_list_of_values_is_repeated_along_the_images(run: Path) -> None:
    G = Generator.from_pretrained(run)
    images = G.sample(70, seed=0, categorical_0=[1, 2, 3])
    assert torch.equal(images[:3], G.sample(3, seed=0, categorical_0=[1, 2, 3]))
    for number in (0, 1, 65, 69):
        assert torch.allclose(images[number], G.sample(70, seed=0, categorical_0=1 + number % 3)[number])


def test_run_checkpoint_and_exported_file_draw_the_same(run: Path, tmp_path: Path) -> None:
    G = Generator.from_pretrained(run)
    G.save(tmp_path / "G.safetensors")
    for path in (run / "checkpoints" / "step-00000006", tmp_path / "G.safetensors", str(run)):
        assert torch.equal(Generator.from_pretrained(path).sample(3, seed=4), G.sample(3, seed=4))


def test_what_is_not_a_model_is_refused_by_name(run: Path, tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("hello")
    save_file({"w": torch.ones(1)}, tmp_path / "foreign.safetensors")
    save_file({"w": torch.ones(1)}, tmp_path / "header.safetensors", metadata={"infogan_dist": "{}"})
    save_file(
        {"w": torch.ones(1)}, tmp_path / "weights.safetensors", metadata={"infogan_dist": tiny("x").model_dump_json()}
    )
    for name, message in {
        "missing": "there is no",
        "missing.safetensors": "there is no file",
        "text.safetensors": "not a safetensors file",
        "foreign.safetensors": "no config in its header",
        "header.safetensors": "not one of ours",
        "weights.safetensors": "does not hold the weights",
    }.items():
        with pytest.raises(UserError, match=message) as caught:
            Generator.from_pretrained(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_checkpoint_that_does_not_verify_is_no_model(tmp_path: Path) -> None:
    train(tiny(tmp_path / "run", "checkpoint.every=0"), ONE_PROCESS)
    (tmp_path / "run/checkpoints/step-00000006/G_ema.safetensors").write_bytes(b"")
    with pytest.raises(NoUsableCheckpoint, match="G_ema"):
        Generator.from_pretrained(tmp_path / "run")
