"""Networks of ours that Accelerate's save_state, or torch.save, wrote in a program of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import save_file

from infogan_dist import Generator, Recognizer
from infogan_dist.cli.main import main
from infogan_dist.config.reading import dump_config
from infogan_dist.errors import UserError
from infogan_dist.export.importers import accelerate
from infogan_dist.networks import build_networks
from infogan_dist.training.modules import build_modules, owned_networks
from tests.conftest import tiny

CONFIG = tiny("run")


def states(prefix: str = "{name}.") -> dict[str, Any]:
    """The tensors of all networks by name."""
    networks = build_networks(CONFIG).named()
    return {
        f"{prefix.format(name=name)}{key}": tensor.clone()
        for name, network in networks.items()
        for key, tensor in network.state_dict().items()
    }


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "pickled"])
def test_a_folder_of_save_state_is_read_exactly(tmp_path: Path, safe: bool) -> None:
    networks = build_networks(CONFIG)
    owned_by_D, _ = owned_networks(networks, CONFIG.objective)
    accelerator = Accelerator(cpu=True)
    accelerator.prepare(*build_modules(networks, owned_by_D, CONFIG.objective))
    accelerator.save_state(str(tmp_path / "state"), safe_serialization=safe)
    AcceleratorState._reset_state(reset_partial_state=True)  # of this process: later tests train in another precision
    (tmp_path / "state" / "config.yaml").write_text(dump_config(CONFIG))
    out = tmp_path / "model.safetensors"
    assert main(["convert", str(tmp_path / "state"), "--from", "accelerate", "--out", str(out)]) == 0
    G, Q = Generator.from_pretrained(out), Recognizer.from_pretrained(out)
    for name, found in {"G": G.network, "FE": Q.FE, "Q": Q.Q}.items():
        expected = networks.named()[name].state_dict()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in found.state_dict().items())
    assert Q.codes(G.sample(3, seed=0)).categorical.shape[0] == 3


def test_the_average_is_what_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = states()
    tensors["G_ema.lift.weight"] += 1
    torch.save(tensors, tmp_path / "all.pt")
    imported = accelerate.read(tmp_path / "all.pt", CONFIG)
    assert torch.equal(imported.model.tensors["G"]["lift.weight"], tensors["G_ema.lift.weight"])
    assert imported.left_out == ""


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
def test_a_state_dict_of_g_alone_is_a_generator(tmp_path: Path, prefix: str) -> None:
    network = build_networks(CONFIG).G
    save_file({f"{prefix}{key}": tensor for key, tensor in network.state_dict().items()}, tmp_path / "G.safetensors")
    imported = accelerate.read(tmp_path / "G.safetensors", CONFIG)
    assert all(torch.equal(imported.model.tensors["G"][key], each) for key, each in network.state_dict().items())
    assert imported.left_out == "the weights hold no average of G, so G itself draws and no FE and Q"


def test_weights_without_a_config_and_of_another_one_are_refused(tmp_path: Path) -> None:
    torch.save(states(), tmp_path / "all.pt")
    with pytest.raises(UserError, match=r"holds weights alone; give --config CONFIG"):
        accelerate.read(tmp_path / "all.pt", None)
    with pytest.raises(UserError, match=r"is not of this config: G has lift\.weight of shape"):
        accelerate.read(tmp_path / "all.pt", tiny("run", "networks.width=8"))
    torch.save({"D.logit.weight": torch.ones(1)}, tmp_path / "D.pt")
    with pytest.raises(UserError, match=r"holds no G: neither names such as G\.lift\.weight"):
        accelerate.read(tmp_path / "D.pt", CONFIG)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="which Accelerate's save_state writes"):
        accelerate.read(tmp_path / "empty", CONFIG)
