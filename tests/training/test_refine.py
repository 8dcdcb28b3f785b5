"""`refine`: a Q that reads known codes, what it writes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from infogan_dist import Recognizer
from infogan_dist.__main__ import main
from infogan_dist.checkpoints import store
from infogan_dist.distributed.launcher import Launch
from infogan_dist.errors import UserError
from infogan_dist.latents import LatentSpec
from infogan_dist.losses import CodePosterior
from infogan_dist.randomness import Stream
from infogan_dist.training.refine import BATCH, fit, refine
from tests.conftest import tiny, untrained

HALVES = "latents={noise: [{dim: 2}], categorical: [2], continuous: 1}"


class Halves(nn.Module):
    """Draws class 0 as light on the left and class 1 as light on the right; the continuous code is the light of the upper left
    corner and its negative that of the upper right one."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()), requires_grad=False)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        noise, classes, continuous = latent.split([2, 2, 1], dim=1)
        image = 0.1 * noise[:, :1, None, None] * torch.ones(28, 28)
        image[:, :, 8:] += torch.cat([classes[:, :1].repeat(1, 14), classes[:, 1:].repeat(1, 14)], dim=1)[:, None, None]
        corner = 0.9 * continuous[:, :, None, None].expand(-1, 1, 8, 14)
        image[:, :, :8] = torch.cat([corner, -corner], dim=3)
        return image.clamp(-1, 1)


@pytest.mark.parametrize("flip", [0.0, 0.5])
def test_classes_are_read_from_augmented_images_and_continuous_codes_from_the_images(flip: float) -> None:
    config = tiny("x", HALVES, f"augmentation={{preset: none, flip: {flip}}}", "networks.width=8")
    losses: list[float] = []
    FE, Q = fit(Halves(), config, 50, 0, lambda step, loss: losses.append(loss.item()))
    assert len(losses) == 50
    assert losses[-1] < losses[0]
    spec = LatentSpec.from_config(config.latents)
    latents = spec.draw(Stream(1, "test"), torch.arange(400))
    with torch.no_grad():
        output = Q(FE(Halves()(spec.vector(latents))))
    posterior = CodePosterior.from_output(output, spec, config.objective)
    code, predicted = latents.codes.continuous[:, 0], posterior.mean[:, 0]
    assert torch.corrcoef(torch.stack([code, predicted]))[0, 1] > 0.9, "a flip negates it, but Q sees the images"
    likelihood = posterior.logits[0].log_softmax(1).gather(1, latents.codes.categorical).exp().mean()
    assert likelihood == pytest.approx(0.5, abs=0.1) if flip else likelihood > 0.9, "a flip hides the class"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return untrained(tmp_path / "run")


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_result_is_a_checkpoint_that_evaluate_names_and_the_run_is_unchanged(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(run)
    assert main(["refine", str(run), "--images", "200"]) == 0
    assert f"refined: {run / 'refined'}" in capsys.readouterr().out
    first = content(run / "refined")
    assert content(run) == before | {f"refined/{name}": found for name, found in first.items()}
    refined, trained = store.verify(run / "refined"), store.find(run)
    assert refined.refined == {"images": 2 * BATCH, "seed": trained.config.seed}
    assert (refined.step, refined.images_seen, refined.config) == (trained.step, trained.images_seen, trained.config)
    assert set(refined.manifest["files"]) == {"G_ema.safetensors", "FE.safetensors", "Q.safetensors"}
    assert refined.load("G_ema")["G_ema"].keys() == trained.load("G_ema")["G_ema"].keys()
    assert first["G_ema.safetensors"] == before["checkpoints/step-00000002/G_ema.safetensors"]
    assert first["FE.safetensors"] != before["checkpoints/step-00000002/FE.safetensors"]
    assert Recognizer.from_pretrained(run / "refined").codes(torch.zeros(2, 1, 28, 28)).categorical.shape == (2, 2)

    (images := run.parent / "images").mkdir()
    Image.linear_gradient("L").save(images / "image.png")
    scored = {}
    for option in ([], ["--refined"]):
        assert main(["evaluate", str(run), "--data", "folder", "--root", str(images), *option, "--json", "-"]) == 0
        printed = capsys.readouterr().out.splitlines()
        scored[bool(option)] = json.loads(printed[-1])
        assert ("Q refined on 256 images of G (seed 0)" if option else "Q of the checkpoint") in printed[0]
    assert (scored[False]["Q"], scored[True]["Q"]) == ("checkpoint", "refined")
    assert scored[True]["refined"] == {"images": 256, "seed": 0}
    assert "refined" not in scored[False]
    assert scored[True]["checkpoint"] == str(run / "refined")
    assert scored[True]["entropy_on_fakes"] != scored[False]["entropy_on_fakes"]


def test_equal_seeds_give_equal_bytes_and_only_overwrite_replaces(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["refine", str(run / "checkpoints" / "step-00000002"), "--images", "128"]
    assert main(command) == 0
    first = content(run / "refined")
    assert main(command) == 2
    assert f"{run / 'refined'} exists; --overwrite replaces it" in capsys.readouterr().err
    assert content(run / "refined") == first
    assert main([*command, "--overwrite"]) == 0
    assert content(run / "refined") == first
    assert main([*command, "--overwrite", "--seed", "5"]) == 0
    other = content(run / "refined")
    assert other["Q.safetensors"] != first["Q.safetensors"]
    assert other["G_ema.safetensors"] == first["G_ema.safetensors"]


@pytest.mark.parametrize(("error", "code"), [(OSError("no space left"), 2), (KeyboardInterrupt(), 75)])
def test_an_interrupted_command_leaves_what_was_there(
    run: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    assert main(["refine", str(run), "--images", "128"]) == 0
    before, sha256 = content(run), store.sha256

    def interrupted(path: Path) -> str:
        if path.name == "Q.safetensors":
            raise error
        return sha256(path)

    monkeypatch.setattr(store, "sha256", interrupted)
    assert main(["refine", str(run), "--images", "128", "--overwrite", "--seed", "5"]) == code
    assert content(run) == before
    assert not list(run.glob(".tmp*"))


def test_what_cannot_be_refined_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(code: int, *words: str) -> str:
        assert main(list(words)) == code
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 1
        return said

    continuous = untrained(tmp_path / "continuous", "latents={categorical: [], continuous: 1}")
    assert "has no categorical code" in refused(2, "refine", str(continuous))
    unused = untrained(tmp_path / "unused", "objective.lambda_categorical=0")
    assert "objective.lambda_categorical = 0" in refused(2, "refine", str(unused))
    assert "there is no" in refused(2, "refine", str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    assert "has no checkpoint" in refused(2, "refine", str(tmp_path / "empty"))
    assert "is an exported file" in refused(2, "refine", str(tmp_path / "G.safetensors"))
    assert "--images" in refused(2, "refine", str(unused), "--images", "0")
    run = untrained(tmp_path / "run")
    assert "run `infogan-dist refine" in refused(2, "evaluate", str(run), "--refined")
    alone = (run / "checkpoints" / "step-00000002").rename(tmp_path / "step-00000002")
    assert "is not in a run folder" in refused(2, "refine", str(alone))
    (run / "checkpoints" / "step-00000002").mkdir()
    assert "no checkpoint in" in refused(4, "refine", str(run))
    with pytest.raises(UserError, match="one process, not 2"):
        refine(run, Launch(processes=2, rank=0, local_rank=0, local_processes=2, cpu=True, precision=None))
    assert not list(tmp_path.rglob("refined"))
    (run / "refined").mkdir()
    said = refused(2, "evaluate", str(run), "--refined", "--name-codes")
    assert "--name-codes names the classes by the checkpoint's Q" in said
