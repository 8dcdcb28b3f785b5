"""Checkpoints of two public ports: the same images, all commands, and what is refused."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from infogan_dist import Generator, Recognizer
from infogan_dist.cli.main import main
from infogan_dist.errors import UserError
from infogan_dist.export.importers import natsu_mnist, pianomania
from tests.export.importers.ports import generator, in_our_range, natsu_state, pianomania_state


def checkpoint(**params: Any) -> dict[str, Any]:
    """What train.py of Natsu6767/InfoGAN-PyTorch saves, with other networks and optimizers in their smallest form."""
    optimizers = {name: {"state": {}, "param_groups": [{"lr": 2e-4}]} for name in ("optimD", "optimG")}
    others = {name: {"conv.weight": torch.ones(1)} for name in ("discriminator", "netD", "netQ")}
    return {"netG": natsu_state(generator()), **others, **optimizers, "params": {"dataset": "MNIST", **params}}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("port", ["natsu-mnist", "pianomania"])
def test_an_imported_generator_draws_the_images_of_the_original(tmp_path: Path, port: str, zipped: bool) -> None:
    network = generator()
    saved = checkpoint() if port == "natsu-mnist" else pianomania_state(network)
    torch.save(saved, tmp_path / "file", _use_new_zipfile_serialization=zipped)
    assert main(["convert", str(tmp_path / "file"), "--from", port, "--out", str(tmp_path / "G.safetensors")]) == 0
    G = Generator.from_pretrained(tmp_path / "G.safetensors")
    latents = G.latents_at(torch.arange(64), 0)
    expected = in_our_range(network, G.spec.vector(latents))
    assert expected.std() > 0.1  # images that could differ
    assert (G.draw(latents) - expected).abs().max() < 1e-5
    assert G.config.latents.noise[0].distribution == {"natsu-mnist": "normal", "pianomania": "uniform"}[port]
    assert (G.spec.noise_dim, G.spec.categorical, G.spec.continuous) == (62, (10,), 2)


def test_what_cannot_be_exact_is_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(checkpoint(), tmp_path / "model_final_MNIST")
    out = tmp_path / "G.safetensors"
    assert main(["convert", str(tmp_path / "model_final_MNIST"), "--from", "natsu-mnist", "--out", str(out)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == str(out)
    assert printed[1].startswith("FE, D and Q are left out: they were trained on images in [0, 1]")
    with pytest.raises(UserError, match="holds G alone"):
        Recognizer.from_pretrained(out)


def test_the_commands_work_on_an_imported_generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(checkpoint(dataset="FashionMNIST"), "model_final_FashionMNIST")
    assert main(["convert", "model_final_FashionMNIST", "--from", "natsu-mnist", "--out", "G.safetensors"]) == 0
    assert Generator.from_pretrained("G.safetensors").config.data.name == "fashion-mnist"
    assert main(["sample", "G.safetensors", "--set", "categorical_0=3", "--out", "a.npz", "--count", "5"]) == 0
    assert np.load("a.npz")["images"].shape == (5, 28, 28, 1)
    assert (
        main(["convert", "G.safetensors", "--to", "safetensors", "--dtype", "fp16", "--out", "half.safetensors"]) == 0
    )


def changed(**tensors: Any) -> dict[str, Any]:
    """A checkpoint with other tensors in its generator, dots in their names written as two underscores."""
    renamed = {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    return {"netG": {**natsu_state(generator()), **renamed}}


OTHERS: dict[str, tuple[Callable[[], Any], str]] = {
    "another network": (lambda: {"netG": {"w": torch.ones(1)}}, "lacks tconv1.weight"),
    "no generator": (lambda: {"netD": {}}, "holds no netG"),
    "a list in its place": (lambda: {"netG": [torch.ones(1)]}, "no state_dict"),
    "text in the place of a tensor": (lambda: {"netG": {"tconv1.weight": "text"}}, "which is not a tensor"),
    "a list": (lambda: [1, 2], "holds no netG"),
    "a tensor": (lambda: torch.ones(2), "holds no netG"),
    "other data": (lambda: checkpoint(dataset="SVHN"), "was trained on 'SVHN'"),
    "data of another type": (lambda: checkpoint(dataset=[1]), "was trained on '[1]'"),
    "a tensor too many": (lambda: changed(tconv5__weight=torch.ones(1)), "has no use for tconv5.weight"),
    "another shape": (lambda: changed(bn3__bias=torch.ones(3)), "bn3.bias of shape [3], not [64]"),
    "a sparse tensor": (lambda: changed(bn3__bias=torch.ones(64).to_sparse()), "_rebuild_sparse_tensor"),
    "complex numbers": (lambda: changed(bn3__bias=torch.ones(64, dtype=torch.complex64)), "ComplexFloatStorage"),
    "integers": (lambda: changed(bn3__bias=torch.ones(64, dtype=torch.int64)), "bn3.bias in torch.int64"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_files_are_refused(tmp_path: Path, name: str) -> None:
    make, words = OTHERS[name]
    torch.save(make(), tmp_path / "file")
    with pytest.raises(UserError) as caught:
        natsu_mnist.read(tmp_path / "file", None)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


def test_options_of_a_training_program_may_be_a_namespace(tmp_path: Path) -> None:
    torch.save({**checkpoint(), "params": argparse.Namespace(dataset="MNIST")}, tmp_path / "file")
    assert natsu_mnist.read(tmp_path / "file", None).model.config.data.name == "mnist"


def test_one_ports_file_is_not_anothers(tmp_path: Path) -> None:
    torch.save(checkpoint(), tmp_path / "file")
    with pytest.raises(UserError, match="which is not a tensor"):
        pianomania.read(tmp_path / "file", None)
