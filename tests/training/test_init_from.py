"""`--init-from`: a new run from the networks of a checkpoint, with new optimizers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from infogan_dist.checkpoints.store import verify
from infogan_dist.errors import UserError
from infogan_dist.training import run as running
from infogan_dist.training.loop import train
from infogan_dist.training.train_state import TrainState
from tests.conftest import ONE_PROCESS, Command, refused, tiny


@pytest.fixture
def source(tmp_path: Path) -> Path:
    train(tiny(tmp_path / "a", "train.steps=4"), ONE_PROCESS)
    return tmp_path / "a"


def last(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step:08d}"


def test_init_from_loads_the_networks_and_not_the_optimizers(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[dict[str, dict[str, torch.Tensor]]] = []
    real = running.initialise

    def initialise(state: TrainState, *arguments: object) -> None:
        real(state, *arguments)  # type: ignore[arg-type]
        copy = {stem: {k: v.clone() for k, v in tensors.items()} for stem, tensors in state.state_dict().items()}
        started.append(copy)

    monkeypatch.setattr(running, "initialise", initialise)
    other = tiny(tmp_path / "b", "seed=5", "optimizer.G.lr=1e-4", "train.steps=3")
    train(other, ONE_PROCESS, init_from=source)
    (state,) = started
    for name in ("G", "FE", "D", "Q"):
        saved = load_file(last(source, 4) / f"{name}.safetensors")
        assert all(torch.equal(state[name][key], tensor) for key, tensor in saved.items())
    assert all(torch.equal(state["G_ema"][key], tensor) for key, tensor in state["G"].items()), (
        "the average starts at G"
    )
    assert state["optimizer_D"] == state["optimizer_G"] == {}
    manifest = verify(last(tmp_path / "b", 3)).manifest
    assert manifest["initialised_from"] == verify(last(source, 4)).origin
    assert manifest["step"] == 3
    assert str(tmp_path) not in json.dumps({**manifest, "config": None})


def test_init_from_given_again_resumes_its_own_output(tmp_path: Path, source: Path) -> None:
    for output, lengths in {"whole": (6,), "resumed": (4, 6)}.items():
        for steps in lengths:
            train(tiny(tmp_path / output, "seed=5", f"train.steps={steps}"), ONE_PROCESS, init_from=source)
    whole, resumed = (
        {file.name: file.read_bytes() for file in last(tmp_path / output, 6).glob("*.safetensors")}
        for output in ("whole", "resumed")
    )
    assert whole == resumed
    assert "initialised_from" in verify(last(tmp_path / "resumed", 6)).manifest, "it is kept"
    train(tiny(tmp_path / "resumed", "seed=5"), ONE_PROCESS)  # and without the option


def test_init_from_other_shapes_is_refused(tmp_path: Path, source: Path, infogan: Command) -> None:
    with pytest.raises(UserError, match=r"does not fit this config: .*use its values of latents"):
        train(tiny(tmp_path / "b", "latents.continuous=1"), ONE_PROCESS, init_from=source)
    assert not (tmp_path / "b").exists()
    other = tiny(tmp_path / "c", "train.steps=2")
    train(other, ONE_PROCESS)
    with pytest.raises(UserError, match="did not start from"):
        train(other, ONE_PROCESS, init_from=source)
    infogan("convert", source, "--to", "safetensors", "--out", "g.safetensors")
    refused(infogan("train", "debug", "--init-from", "g.safetensors"), "--init-from g.safetensors", "not FE, D and Q")
    refused(infogan("train", "debug", "--resume", "g.safetensors"), "--resume g.safetensors", "not FE, D and Q")
    refused(infogan("train", "debug", "--init-from", source, "--resume", source), "give one of them")
    refused(infogan("train", "debug", "--init-from", source, "--debug"), "--debug")


def test_changed_learning_rate_names_init_from_and_fewer_steps_are_refused(tmp_path: Path, source: Path) -> None:
    with pytest.raises(UserError, match=rf"optimizer\.G\.lr = 0\.001, not 0\.0001.*--init-from {source} output=OTHER"):
        train(tiny(source, "optimizer.G.lr=1e-4"), ONE_PROCESS)
    with pytest.raises(UserError, match=r"step-00000004 is at step 4, after train\.steps = 3; set train\.steps to 4"):
        train(tiny(tmp_path / "b", "train.steps=3"), ONE_PROCESS, resume=str(source))
    assert not (tmp_path / "b").exists()


def test_finished_run_prints_its_step(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for steps in (4, 2):
        train(tiny(source, f"train.steps={steps}"), ONE_PROCESS)
        assert f"{source} is done at step 4; set train.steps above 4 to continue it" in capsys.readouterr().out
