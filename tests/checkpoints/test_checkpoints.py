from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from infogan_dist.checkpoints import store as checkpoints
from infogan_dist.checkpoints.manifest import with_checksum
from infogan_dist.checkpoints.state import optimizer_tensors, restore_optimizer
from infogan_dist.checkpoints.store import Damaged, State
from infogan_dist.errors import Diverged, NoUsableCheckpoint, UserError


def state(value: float = 1.0) -> State:
    return {"G": {"w": torch.full((2, 3), value), "count": torch.tensor(4)}, "D": {"w": torch.arange(5.0)}}


def save(folder: Path, step: int, value: float = 1.0) -> Path:
    return checkpoints.save(folder, state(value), {"step": step, "images_seen": 10 * step})


def test_saved_state_and_metadata_read_back(tmp_path: Path) -> None:
    checkpoint = checkpoints.verify(save(tmp_path, 7))
    assert checkpoint.path.name == "step-00000007"
    assert checkpoint.manifest["images_seen"] == 70
    assert checkpoint.manifest["files"]["G.safetensors"]["shapes"] == {"w": [2, 3], "count": []}
    assert torch.equal(checkpoint.load()["G"]["w"], torch.ones(2, 3))
    assert list(checkpoint.load("D")) == ["D"]
    assert not list(tmp_path.glob(".tmp-*"))


def test_channels_last_weights_keep_their_layout(tmp_path: Path) -> None:
    network = nn.Conv2d(3, 4, 2).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    network(torch.randn(1, 3, 5, 5)).sum().backward()
    optimizer.step()
    owned: dict[str, nn.Module] = {"G": network}
    saved = checkpoints.save(tmp_path, {"optimizer_G": optimizer_tensors(optimizer, owned)}, {"step": 1})
    tensors = checkpoints.verify(saved).load()["optimizer_G"]
    assert set(tensors) == {
        f"G.{name}/{key}" for name in ("weight", "bias") for key in ("step", "exp_avg", "exp_avg_sq")
    }
    other = torch.optim.Adam(network.parameters(), fused=True)
    restore_optimizer(other, owned, tensors)
    for parameter in network.parameters():
        for key, value in optimizer.state[parameter].items():
            restored = other.state[parameter][key]
            assert torch.equal(restored, value)
            assert value.dim() == 0 or restored.stride() == parameter.stride()


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "corrupt": lambda path: _flip(path / "G.safetensors"),
    "bytes instead of": lambda path: (path / "G.safetensors").write_bytes(b"short"),
    "is missing": lambda path: (path / "D.safetensors").unlink(),
    "missing or unreadable": lambda path: (path / "manifest.json").write_text("{"),
    "schema 99": lambda path: (path / "manifest.json").write_text(json.dumps({"schema": 99, "step": 3, "files": {}})),
    "of step 4": lambda path: (path / "manifest.json").write_text(json.dumps({"schema": 1, "step": 4, "files": {}})),
}


@pytest.mark.parametrize("reason", DAMAGES)
def test_damaged_checkpoint_is_named_and_the_previous_one_used(tmp_path: Path, reason: str) -> None:
    save(tmp_path, 2)
    broken = save(tmp_path, 3)
    DAMAGES[reason](broken)
    with pytest.raises(Damaged, match=reason):
        checkpoints.verify(broken)
    found, complaints = checkpoints.newest(tmp_path)
    assert found is not None
    assert found.step == 2
    assert len(complaints) == 1
    assert reason in complaints[0]


def test_newest_raises_if_all_checkpoints_are_damaged(tmp_path: Path) -> None:
    _flip(save(tmp_path, 3) / "G.safetensors")
    with pytest.raises(NoUsableCheckpoint, match=r"G\.safetensors is corrupt"):
        checkpoints.newest(tmp_path)
    assert checkpoints.newest(tmp_path / "empty") == (None, [])


def test_manifest_cannot_name_files_outside_its_folder(tmp_path: Path) -> None:
    path = save(tmp_path, 3)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["../../secret"] = manifest["files"]["G.safetensors"]
    (path / "manifest.json").write_text(json.dumps(with_checksum(manifest)))
    with pytest.raises(Damaged, match="secret"):
        checkpoints.verify(path)


def test_manifest_checksum_does_not_depend_on_formatting(tmp_path: Path) -> None:
    path = save(tmp_path, 3)
    manifest = json.loads((path / "manifest.json").read_text())
    content = {key: value for key, value in manifest.items() if key != "sha256"}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    assert manifest["sha256"] == hashlib.sha256(canonical).hexdigest()
    (path / "manifest.json").write_text(json.dumps(dict(reversed(manifest.items())), indent=7))
    assert checkpoints.verify(path).step == 3


@pytest.mark.parametrize(
    "change", [{"images_seen": 71}, {"files": {}}, {"new": None}, {"sha256": "0" * 64}, {"sha256": 7}]
)
def test_changed_manifest_is_damaged(tmp_path: Path, change: dict[str, object]) -> None:
    path = save(tmp_path, 3)
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | change))
    with pytest.raises(Damaged, match="its sha256 does not match its content"):
        checkpoints.verify(path)


def test_manifest_without_its_own_checksum_loads(tmp_path: Path) -> None:
    path = save(tmp_path, 3)
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["sha256"]
    (path / "manifest.json").write_text(json.dumps(manifest))
    assert checkpoints.verify(path).step == 3


def test_nonfinite_numbers_are_never_saved(tmp_path: Path) -> None:
    save(tmp_path, 2)
    with pytest.raises(Diverged, match=r"G\.w is not finite"):
        save(tmp_path, 3, value=float("nan"))
    assert [path.name for path in checkpoints.folders(tmp_path)] == ["step-00000002"]


def test_failed_save_leaves_no_files_and_keeps_earlier_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 2)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "sync", full)
    with pytest.raises(OSError, match="No space"):
        save(tmp_path, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000002"]


def test_pruning_keeps_the_newest_and_every_nth_and_clears_interrupted_saves(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4, 6, 10):
        save(tmp_path, step)
    (tmp_path / ".tmp-step-00000005").mkdir()
    checkpoints.prune(tmp_path, 10, keep=2, keep_every=2)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [f"step-{step:08d}" for step in (2, 4, 6, 10)]
    checkpoints.prune(tmp_path, 10, keep=2)
    assert [checkpoints.step_of(path) for path in checkpoints.folders(tmp_path)] == [10, 6]


def test_damaged_checkpoint_ahead_of_the_run_displaces_no_valid_one(tmp_path: Path) -> None:
    for step in (2, 3, 8):
        save(tmp_path, step)
    _flip(tmp_path / "step-00000008" / "G.safetensors")
    checkpoints.prune(tmp_path, 3, keep=1)
    assert [checkpoints.step_of(path) for path in checkpoints.folders(tmp_path)] == [8, 3]
    found, _ = checkpoints.newest(tmp_path)
    assert found is not None
    assert found.step == 3


def test_steps_of_more_than_8_digits_are_newer(tmp_path: Path) -> None:
    for step in (99_999_999, 100_000_000):
        save(tmp_path, step)
    (tmp_path / "step-last").mkdir()
    assert [checkpoints.step_of(path) for path in checkpoints.folders(tmp_path)] == [100_000_000, 99_999_999]


def _forge(path: Path, **changes: object) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(with_checksum(manifest | changes)))


def _swap_in(path: Path, content: bytes) -> None:
    """Replace a file and update the manifest to match."""
    (path / "G.safetensors").write_bytes(content)
    files = json.loads((path / "manifest.json").read_text())["files"]
    files["G.safetensors"] |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    _forge(path, files=files)


def _other_shapes(path: Path) -> None:
    files = json.loads((path / "manifest.json").read_text())["files"]
    files["G.safetensors"]["shapes"]["w"] = [3, 2]
    _forge(path, files=files)


FORGERIES: dict[str, Callable[[Path], object]] = {
    "cannot be read": lambda path: _swap_in(path, pickle.dumps({"a": 1})),
    "other tensors or shapes": _other_shapes,
    "invalid 'step'": lambda path: _forge(path, step="3"),
    "invalid 'files.G.safetensors": lambda path: _forge(path, files={"G.safetensors": 7}),
    "invalid 'files'": lambda path: _forge(path, files=["G.safetensors"]),
    "not a JSON object": lambda path: (path / "manifest.json").write_text("[]"),
    "recursion": lambda path: (path / "manifest.json").write_text("[" * 100_000),
    "not a file in this folder": lambda path: _forge(
        path, files={"a\x1b[2J": {"sha256": "", "bytes": 1, "shapes": {}}}
    ),
    "more than": lambda path: os.truncate(path / "manifest.json", 65 * 2**20),
}


@pytest.mark.parametrize("reason", FORGERIES)
def test_forged_checkpoint_is_refused_with_a_reason(tmp_path: Path, reason: str) -> None:
    path = save(tmp_path, 3)
    FORGERIES[reason](path)
    with pytest.raises(Damaged, match=reason):
        checkpoints.verify(path)


def test_file_outside_the_manifest_is_not_read(tmp_path: Path) -> None:
    path = save(tmp_path, 3)
    (path / "extra.safetensors").write_bytes(pickle.dumps("surprise"))
    assert set(checkpoints.verify(path).load()) == {"G", "D"}
    with pytest.raises(NoUsableCheckpoint, match=r"has no extra\.safetensors"):
        checkpoints.verify(path).load("extra")


def test_find_takes_a_run_or_a_checkpoint_and_refuses_other_paths(tmp_path: Path) -> None:
    saved = save(tmp_path / "checkpoints", 5)
    assert checkpoints.find(tmp_path).path == checkpoints.find(saved).path == saved
    with pytest.raises(UserError, match="there is no"):
        checkpoints.find(tmp_path / "nowhere")
    with pytest.raises(UserError, match="has no checkpoint"):
        checkpoints.find(tmp_path / "checkpoints")
    _flip(saved / "D.safetensors")
    with pytest.raises(NoUsableCheckpoint, match="corrupt"):
        checkpoints.find(saved)
