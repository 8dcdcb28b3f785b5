"""A .pt2 file: runs with torch alone, and is never read here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from infogan_dist import Generator, Recognizer
from infogan_dist.errors import UserError
from infogan_dist.export import torch_export
from infogan_dist.export.importers.pickled import read_pickled
from infogan_dist.export.model import Model
from tests.conftest import clean_environment
from tests.export.paths import places_in

WITHOUT_US = """
import sys
sys.modules["infogan_dist"] = None
import json
import torch
said = {"infogan_dist.json": ""}
network = torch.export.load("G.pt2", extra_files=said).module()
images = network(torch.load("latents.pt", weights_only=True))
torch.save((images, torch.export.load("G-recognizer.pt2").module()(images)), "found.pt")
assert json.loads(json.loads(said["infogan_dist.json"])["infogan_dist"])["networks"]["width"] == 4
"""


def test_it_runs_without_this_package_and_holds_no_path(run: Path, tmp_path: Path) -> None:
    written = torch_export.write(Model.from_pretrained(str(run), with_q=True), tmp_path / "G.pt2", torch.float32)
    assert [path.name for path in written] == ["G.pt2", "G-recognizer.pt2"]
    assert [found for path in written for found in places_in(path)] == []
    G, Q = Generator.from_pretrained(run), Recognizer.from_pretrained(run)
    latents = G.latents_at(torch.arange(3), 0)
    torch.save(G.spec.vector(latents), tmp_path / "latents.pt")
    subprocess.run([sys.executable, "-c", WITHOUT_US], cwd=tmp_path, env=clean_environment(), check=True)
    images, posterior = torch.load(tmp_path / "found.pt", weights_only=True)
    torch.testing.assert_close(images, G.draw(latents))
    torch.testing.assert_close(posterior[:, :10], Q.posterior(images).logits[0])


def test_half_precision_is_of_the_weights_alone(run: Path, tmp_path: Path) -> None:
    torch_export.write(Model.from_pretrained(str(run)), tmp_path / "G.pt2", torch.float16)
    program = torch.export.load(tmp_path / "G.pt2")
    assert {tensor.dtype for tensor in program.state_dict.values()} == {torch.float16}
    G = Generator.from_pretrained(run)
    latents = G.latents_at(torch.arange(5), 0)
    images = program.module()(G.spec.vector(latents))
    assert images.dtype == torch.float32
    assert (images - G.draw(latents)).abs().max() < 5e-3


def test_it_is_never_read_here(run: Path, tmp_path: Path) -> None:
    torch_export.write(Model.from_pretrained(str(run)), tmp_path / "G.pt2", torch.float32)
    for read in (Generator.from_pretrained, read_pickled):
        with pytest.raises(UserError):
            read(tmp_path / "G.pt2")
