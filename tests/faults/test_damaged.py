"""Damaged files: the newest checkpoint that verifies is used and the others are named. Without any, the exit code is 4."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from infogan_dist.checkpoints.manifest import with_checksum
from tests.faults.harness import Workspace, final_bytes, markers, only_message, steps_kept, steps_logged


class Payload:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (Path("/tmp/infogan-dist-was-unpickled"),)


MARK = Payload().__reduce__()[1][0]


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def forge(checkpoint: Path, name: str, content: bytes) -> None:
    """Replace the content of a file and update the manifest to match."""
    (checkpoint / name).write_bytes(content)
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    manifest["files"][name] |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (checkpoint / "manifest.json").write_text(json.dumps(with_checksum(manifest)))


def reshape(checkpoint: Path) -> None:
    tensors = load_file(checkpoint / "G.safetensors")
    name = next(iter(tensors))
    save_file(tensors | {name: tensors[name].flatten()[:-1].contiguous()}, checkpoint / "other.safetensors")
    forge(checkpoint, "G.safetensors", (checkpoint / "other.safetensors").read_bytes())


def age(checkpoint: Path) -> None:
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    (checkpoint / "manifest.json").write_text(json.dumps(manifest | {"schema": 0}))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a truncated file": (lambda path: (path / "G.safetensors").write_bytes(b"\0" * 100), "G.safetensors has 100 bytes"),
    "a flipped byte of data": (
        lambda path: flip(path / "optimizer_D.safetensors", -1),
        "optimizer_D.safetensors is corrupt",
    ),
    "a flipped byte of a header": (lambda path: flip(path / "FE.safetensors", 9), "FE.safetensors is corrupt"),
    "a missing file": (lambda path: (path / "Q.safetensors").unlink(), "Q.safetensors is missing"),
    "a missing manifest": (lambda path: (path / "manifest.json").unlink(), "manifest.json is missing"),
    "a torn manifest": (
        lambda path: (path / "manifest.json").write_text('{"schema": 1, "st'),
        "manifest.json is missing or unr",
    ),
    "another schema": (age, "schema 0; this version reads 1"),
    "other shapes": (reshape, "G.safetensors has other tensors or shapes"),
    "a manifest that says something else": (
        lambda path: (path / "manifest.json").write_text(
            (path / "manifest.json").read_text().replace('"lambda_categorical": 1.0', '"lambda_categorical": 2.0')
        ),
        "manifest.json is corrupt: its sha256 does not match its content",
    ),
    "a FIFO in place of the manifest": (
        lambda path: ((path / "manifest.json").unlink(), os.mkfifo(path / "manifest.json")),
        "it is not a regular file",
    ),
    "an endless device in place of the manifest": (
        lambda path: ((path / "manifest.json").unlink(), (path / "manifest.json").symlink_to("/dev/zero")),
        "it is not a regular file",
    ),
    "a pickle in place of tensors": (
        lambda path: forge(path, "G.safetensors", pickle.dumps(Payload())),
        "G.safetensors cannot be read",
    ),
    "a pickle in place of the manifest": (
        lambda path: (path / "manifest.json").write_bytes(pickle.dumps(Payload())),
        "manifest.json is missing or unreadable",
    ),
}


@pytest.fixture
def run(workspace: Workspace, undisturbed: Path) -> Path:
    """A run that was stopped after step 4, with the checkpoints of steps 2 and 4."""
    shutil.copytree(undisturbed, workspace.folder / "run")
    shutil.rmtree(workspace.folder / "run/checkpoints/step-00000006")
    (workspace.folder / "run/DONE").unlink()
    return workspace.folder / "run"


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_checkpoint_is_reported_and_the_previous_one_used(
    workspace: Workspace, run: Path, undisturbed: Path, damage: str
) -> None:
    inflict, reason = DAMAGES[damage]
    inflict(run / "checkpoints/step-00000004")
    (resumed,) = workspace.train(faults="no-pickle,no-pictures")
    assert resumed.exit_code() == 0, resumed.err
    assert "skipping a damaged checkpoint: run/checkpoints/step-00000004/" in resumed.out
    assert reason in resumed.out
    assert "training again from step 3: the steps up to 6 were not saved" in resumed.out
    assert final_bytes(run) == final_bytes(undisturbed)
    assert steps_kept(run) == [2, 4, 6]  # the damaged checkpoint of step 4 is replaced
    assert steps_logged(run) == [1, 2, 3, 4, 5, 6]
    assert not MARK.exists()


@pytest.mark.parametrize("damage", DAMAGES)
def test_run_with_all_checkpoints_damaged_does_not_start_again(workspace: Workspace, run: Path, damage: str) -> None:
    for path in (run / "checkpoints").iterdir():
        DAMAGES[damage][0](path)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for command in (
        ["train"],
        ["sample", "run", "--out", "grid.png"],
        ["convert", "run", "--to", "safetensors", "--out", "G.safetensors"],
    ):
        (refused,) = (
            workspace.train(faults="no-pickle")
            if command == ["train"]
            else workspace.start(*command, faults="no-pickle")
        )
        assert refused.exit_code() == 4, refused.err
        only_message(
            refused.err,
            "no checkpoint in run/checkpoints verifies",
            DAMAGES[damage][1],
            "step-00000002",
            "step-00000004",
        )
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert not MARK.exists()


def test_extra_file_in_a_checkpoint_is_not_read(workspace: Workspace, run: Path, undisturbed: Path) -> None:
    (run / "checkpoints/step-00000004/extra.safetensors").write_bytes(pickle.dumps(Payload()))
    (run / "checkpoints/step-last").mkdir()
    (resumed,) = workspace.train(faults="no-pickle,no-pictures")
    assert resumed.exit_code() == 0, resumed.err
    assert "continuing after step 4" in resumed.out
    assert final_bytes(run) == final_bytes(undisturbed)
    assert not MARK.exists()


def test_sample_skips_a_damaged_checkpoint_with_a_warning(workspace: Workspace, run: Path) -> None:
    flip(run / "checkpoints/step-00000004/G_ema.safetensors", -1)
    (sample,) = workspace.start("sample", "run", "--out", "grid.png", faults="no-pickle")
    assert sample.exit_code() == 0, sample.err
    only_message(sample.err, "skipping a damaged checkpoint", "G_ema.safetensors is corrupt")
    assert (workspace.folder / "grid.png").exists()


def test_pickle_named_as_an_exported_file_is_refused(workspace: Workspace) -> None:
    (workspace.folder / "G.safetensors").write_bytes(pickle.dumps(Payload()))
    (sample,) = workspace.start("sample", "G.safetensors", "--out", "grid.png", faults="no-pickle")
    assert sample.exit_code() == 2
    only_message(sample.err, "G.safetensors is not a safetensors file")
    assert not MARK.exists()


def test_state_of_another_network_is_refused(workspace: Workspace, run: Path) -> None:
    (other,) = workspace.train("other", "networks.width=3", "train.steps=4", faults="no-pictures")
    assert other.exit_code() == 0, other.err
    checkpoint = run / "checkpoints/step-00000004"
    theirs = workspace.folder / "other/checkpoints/step-00000004"
    facts = json.loads((theirs / "manifest.json").read_text())["files"]["optimizer_G.safetensors"]
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    manifest["files"]["optimizer_G.safetensors"] = facts
    (checkpoint / "manifest.json").write_text(json.dumps(with_checksum(manifest)))
    shutil.copy(theirs / "optimizer_G.safetensors", checkpoint)
    (refused,) = workspace.train()
    assert refused.exit_code() == 4, refused.err
    only_message(refused.err, "step-00000004", "to another network", "exp_avg")
    assert markers(run) == []
