"""Pickles that want to run something: named, refused, and nothing of them is run, under any ending and by any command."""

from __future__ import annotations

import os
import pickle
import subprocess
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from infogan_dist.cli.main import main
from infogan_dist.errors import UserError
from infogan_dist.export.importers.pickled import read_pickled
from tests.conftest import Command, refused

ENDINGS = ("", ".pt", ".pth", ".pkl", ".bin", ".ckpt", ".pt2", ".safetensors", ".onnx", ".npz")


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any):
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def hostile(marker: Path) -> dict[str, tuple[Any, str]]:
    """Objects that would make a file, or run code, with the global that each asks for."""
    return {
        "os.system": (Calls(os.system, f"touch {marker}"), "posix.system"),
        "eval": (Calls(eval, f"open({str(marker)!r}, 'w')"), "eval"),
        "open": (Calls(open, str(marker), "w"), "open"),
        "subprocess": (Calls(subprocess.Popen, ["touch", str(marker)]), "Popen"),
        "getattr": (Calls(getattr, "", "upper"), "getattr"),
        "a module": (nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        "torch.load": (Calls(torch.load, str(marker)), "torch.serialization.load"),
    }


WRITERS: dict[str, Callable[[Any, Path], object]] = {
    "zip": lambda content, path: torch.save({"netG": content}, path),
    "legacy": lambda content, path: torch.save({"netG": content}, path, _use_new_zipfile_serialization=False),
    **{
        f"protocol {number}": lambda content, path, number=number: path.write_bytes(
            pickle.dumps(content, protocol=number)
        )
        for number in (0, 2, 4, 5)
    },
}


@pytest.mark.parametrize("written", WRITERS)
@pytest.mark.parametrize("name", hostile(Path()))
def test_a_pickle_with_code_is_refused_by_the_name_of_its_global(tmp_path: Path, name: str, written: str) -> None:
    content, asked = hostile(tmp_path / "marker")[name]
    if name == "a module" and written == "protocol 0":
        asked = "copy_reg._reconstructor"
    WRITERS[written](content, tmp_path / "file")
    with pytest.raises(UserError, match=f"holds a pickle that asks for .*{asked}; no code was run") as caught:
        read_pickled(tmp_path / "file")
    assert str(caught.value).isprintable()
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("ending", ENDINGS)
def test_no_command_runs_it_under_any_ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    monkeypatch.chdir(tmp_path)
    content, _ = hostile(tmp_path / "marker")["os.system"]
    for written in ("zip", "legacy"):
        WRITERS[written](content, Path(f"file{ending}"))
        commands = [
            ["sample", f"file{ending}", "--out", "a.png"],
            ["evaluate", f"file{ending}"],
            ["convert", f"file{ending}", "--to", "safetensors", "--out", "a.safetensors"],
            *(
                ["convert", f"file{ending}", "--from", port, "--out", "a.safetensors"]
                for port in ("natsu-mnist", "pianomania")
            ),
            ["convert", f"file{ending}", "--from", "accelerate", "--config", "debug", "--out", "a.safetensors"],
        ]
        assert [main(command) for command in commands] == [2] * len(commands)
    assert [path.name for path in tmp_path.iterdir()] == [f"file{ending}"]


def test_the_hostile_file_would_have_run(tmp_path: Path) -> None:
    content, _ = hostile(tmp_path / "marker")["open"]
    WRITERS["zip"](content, tmp_path / "file")
    torch.load(tmp_path / "file", weights_only=False)
    assert (tmp_path / "marker").exists()


def test_the_refusal_is_one_line_of_a_process(infogan: Command, tmp_path: Path) -> None:
    WRITERS["protocol 4"](hostile(tmp_path / "marker")["eval"][0], tmp_path / "file")  # torch warns of this protocol
    refused(infogan("convert", "file", "--from", "natsu-mnist", "--out", "G.safetensors"), "asks for builtins.eval")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "content", [b"", b"text", b"\x80\x02.", b"PK\x03\x04", b"\x80\x05\x95" + b"\xff" * 8, b"(" * 10_000]
)
def test_any_other_bytes_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UserError, match=r"is not a file of tensors that torch\.save wrote") as caught:
        read_pickled(tmp_path / "file")
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()


def test_a_file_that_unpacks_to_more_than_it_is_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "file", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("archive/data.pkl", b"\0" * 10**7)
    with pytest.raises(UserError, match="it is compressed"):
        read_pickled(tmp_path / "file")


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero"), lambda path: None])
def test_only_a_regular_file_is_opened(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "file")
    with pytest.raises(UserError, match="cannot be read"):
        read_pickled(tmp_path / "file")


def test_a_file_larger_than_any_port_writes_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.truncate(tmp_path / "file", 2**42)
    with pytest.raises(UserError, match="more than 4,294,967,296"):
        read_pickled(tmp_path / "file")


@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_saves_of_networks_and_optimizers_is_read(tmp_path: Path, zipped: bool) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.zeros(2, 1, 4, 4)).sum().backward()
    optimizer.step()
    saved = {
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "half": torch.ones(1).half(),
        "epoch": 3,
    }
    torch.save(saved, tmp_path / "file", _use_new_zipfile_serialization=zipped)
    found = read_pickled(tmp_path / "file")
    assert isinstance(found["network"], OrderedDict)
    assert torch.equal(found["network"]["0.weight"], network[0].weight)
    assert found["optimizer"]["state"][0]["step"] == 1
