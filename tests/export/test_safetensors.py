"""The safetensors file of `convert`: what it holds of the machine it was made on."""

from __future__ import annotations

from pathlib import Path

import torch

from infogan_dist import Generator, Recognizer
from infogan_dist.export import safetensors
from infogan_dist.export.model import Model
from tests.export.paths import SECRET, places_in


def test_the_scan_finds_what_a_run_says_of_itself(run: Path) -> None:
    assert any(SECRET in found for found in places_in(run / "config.yaml"))


def test_one_file_holds_g_fe_and_q_and_no_path(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    assert safetensors.write(Model.from_pretrained(str(run), with_q=True), out, torch.float32) == [out]
    images = Generator.from_pretrained(out).sample(3, seed=0)
    assert torch.equal(images, Generator.from_pretrained(run).sample(3, seed=0))
    ours, theirs = Recognizer.from_pretrained(out), Recognizer.from_pretrained(run)
    assert torch.equal(ours.posterior(images).mean, theirs.posterior(images).mean)
    assert places_in(out) == []


def test_a_generator_that_is_saved_holds_no_path_and_loads_though_its_images_are_elsewhere(
    run: Path, tmp_path: Path
) -> None:
    Generator.from_pretrained(run).save(str(tmp_path / "G.safetensors"))
    assert places_in(tmp_path / "G.safetensors") == []
    assert Generator.from_pretrained(tmp_path / "G.safetensors").config.data.name == "folder"
