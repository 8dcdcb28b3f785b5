from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import infogan_dist
from infogan_dist.errors import UserError
from tests.conftest import clean_environment, tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("api") / "run"
    assert infogan_dist.train(tiny(output, "train.steps=4")) == output
    return output


def test_train_and_evaluate_leave_the_threads_alone_and_agree_with_the_commands(run: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        metrics = infogan_dist.evaluate(run)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert (metrics["step"], metrics["data"], metrics["images"]) == (4, "mnist-mini", 2000)
    assert 0 <= metrics["code_error"] <= 1
    assert infogan_dist.train(tiny(run, "train.steps=4")) == run, "the same call on a finished run returns"


def test_the_whole_path_from_images_to_edited_images(run: Path) -> None:
    G, Q = infogan_dist.Generator.from_pretrained(run), infogan_dist.Recognizer.from_pretrained(run)
    images = G.sample(3, seed=0, categorical_0=[1, 2, 3])
    assert Q.codes(images).categorical.shape == (3, 2)
    changed = infogan_dist.edit(G, Q, images[0], {"categorical_0": 4})
    assert changed.edited.shape == (1, 1, 28, 28)
    assert changed.edited_latents.codes.categorical[0, 0] == 4


def test_traverse_holds_everything_but_one_code(run: Path) -> None:
    G = infogan_dist.Generator.from_pretrained(run)
    assert torch.equal(G.traverse("categorical_0", seed=3)[4], G.sample(1, seed=3, categorical_0=4)[0])
    swept = G.traverse("continuous_1", frames=5, seed=3, low=-0.5, high=0.5)
    assert torch.allclose(swept[0], G.sample(1, seed=3, continuous_1=-0.5)[0], atol=1e-6)
    assert len(swept) == 5
    with pytest.raises(UserError, match="there is no code nonsense"):
        G.traverse("nonsense")


def test_overrides_go_with_a_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown config key train\.stepz"):
        infogan_dist.train("debug", f"output={tmp_path / 'x'}", "train.stepz=3")
    with pytest.raises(TypeError, match="model_copy"):
        infogan_dist.train(tiny(tmp_path / "x"), "train.steps=3")


@pytest.mark.parametrize(
    ("code", "absent"),
    [("import infogan_dist", "torch"), ("from infogan_dist import Generator, Recognizer, LatentSpec", "torchvision")],
)
def test_importing_stays_light(code: str, absent: str) -> None:
    check = f"{code}; import sys; sys.exit({absent!r} in sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True, env=clean_environment())
