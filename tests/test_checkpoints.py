from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from infogan_dist import checkpoints
from infogan_dist.checkpoints import Damaged, State
from infogan_dist.errors import Diverged, NoUsableCheckpoint, UserError
from infogan_dist.state import optimizer_tensors, restore_optimizer


def state(value: float = 1.0) -> State:
    return {"G": {"w": torch.full((2, 3), value), "count": torch.tensor(4)}, "D": {"w": torch.arange(5.0)}}


def save(folder: Path, step: int, value: float = 1.0) -> Path:
    return checkpoints.save(folder, state(value), {"step": step, "images_seen": 10 * step})


def test_what_is_saved_reads_back_with_its_facts(tmp_path: Path) -> None:
    checkpoint = checkpoints.verify(save(tmp_path, 7))
    assert checkpoint.path.name == "step-00000007"
    assert checkpoint.manifest["images_seen"] == 70
    assert checkpoint.manifest["files"]["G.safetensors"]["shapes"] == {"w": [2, 3], "count": []}
    assert torch.equal(checkpoint.load()["G"]["w"], torch.ones(2, 3))
    assert list(checkpoint.load("D")) == ["D"]
    assert not list(tmp_path.glob(".tmp-*"))


def test_channels_last_weights_are_saved_and_restored_in_their_own_layout(tmp_path: Path) -> None:
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
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(tmp_path: Path, reason: str) -> None:
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


def test_where_all_are_damaged_nothing_starts_afresh(tmp_path: Path) -> None:
    _flip(save(tmp_path, 3) / "G.safetensors")
    with pytest.raises(NoUsableCheckpoint, match=r"G\.safetensors is corrupt"):
        checkpoints.newest(tmp_path)
    assert checkpoints.newest(tmp_path / "empty") == (None, [])


def test_a_manifest_cannot_point_outside_its_folder(tmp_path: Path) -> None:
    path = save(tmp_path, 3)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["../../secret"] = manifest["files"]["G.safetensors"]
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(Damaged, match="secret"):
        checkpoints.verify(path)


def test_numbers_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    save(tmp_path, 2)
    with pytest.raises(Diverged, match=r"G\.w is not finite"):
        save(tmp_path, 3, value=float("nan"))
    assert [path.name for path in checkpoints.folders(tmp_path)] == ["step-00000002"]


def test_a_save_that_fails_leaves_nothing_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 2)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "sync", full)
    with pytest.raises(OSError, match="No space"):
        save(tmp_path, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000002"]


def test_pruning_keeps_the_newest_and_clears_what_was_interrupted(tmp_path: Path) -> None:
    for step in (1, 2, 3, 10):
        save(tmp_path, step)
    (tmp_path / ".tmp-step-00000004").mkdir()
    checkpoints.prune(tmp_path, keep=2)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-00000003", "step-00000010"]


def test_find_takes_a_run_or_a_checkpoint_and_names_what_is_neither(tmp_path: Path) -> None:
    saved = save(tmp_path / "checkpoints", 5)
    assert checkpoints.find(tmp_path).path == checkpoints.find(saved).path == saved
    with pytest.raises(UserError, match="there is no"):
        checkpoints.find(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no checkpoint"):
        checkpoints.find(tmp_path / "checkpoints")
    _flip(saved / "D.safetensors")
    with pytest.raises(NoUsableCheckpoint, match="corrupt"):
        checkpoints.find(saved)
