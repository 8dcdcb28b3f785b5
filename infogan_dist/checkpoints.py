"""Checkpoints: a folder of safetensors files that counts only once its manifest, written last, verifies.

Nothing is pickled. Rank zero alone calls these functions; what it reads is handed to the others.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

import infogan_dist
from infogan_dist.errors import Diverged, NoUsableCheckpoint, UserError

MANIFEST = "manifest.json"
MANIFEST_SCHEMA = 1

State = dict[str, dict[str, Tensor]]  # file stem -> tensor name -> tensor


class Damaged(Exception):
    """A checkpoint does not verify; the message names the file and the reason."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that verifies."""

    path: Path
    manifest: dict[str, Any]

    @property
    def step(self) -> int:
        return int(self.manifest["step"])

    def load(self, *names: str) -> State:
        """The tensors of the named files, or of all of them, on the CPU."""
        stems = names or tuple(Path(file).stem for file in self.manifest["files"])
        return {stem: load_file(self.path / f"{stem}.safetensors") for stem in stems}


def versions() -> dict[str, str]:
    """What made a file: this package and the libraries that decide its numbers."""
    libraries = {name: version(name) for name in ("torch", "accelerate", "safetensors")}
    return {"infogan_dist": infogan_dist.__version__, **libraries, "python": platform.python_version()}


def save(folder: Path, state: State, facts: dict[str, Any]) -> Path:
    """Write `state` as folder/step-XXXXXXXX, whole or not at all; `facts` must hold `step` and goes into the manifest.

    Raises Diverged rather than write a number that is not finite; an OSError leaves earlier checkpoints as they were.
    """
    _check_finite(state)
    name = f"step-{facts['step']:08d}"
    partial, final = folder / f".tmp-{name}", folder / name
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        files = {}
        for stem, tensors in state.items():
            path = partial / f"{stem}.safetensors"
            save_file({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, path)
            _sync(path)
            shapes = {key: list(tensor.shape) for key, tensor in tensors.items()}
            files[path.name] = {"sha256": _sha256(path), "bytes": path.stat().st_size, "shapes": shapes}
        manifest = {"schema": MANIFEST_SCHEMA, **facts, "versions": versions(), "files": files}
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        _sync(partial / MANIFEST)
        _sync(partial)
        if final.exists():  # a damaged one of the same step: a sound one is never written twice
            shutil.rmtree(final)
        partial.rename(final)
        _sync(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return final


def prune(folder: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints, and what interrupted saves left behind."""
    for path in [*folders(folder)[keep:], *folder.glob(".tmp-step-*")]:
        shutil.rmtree(path)


def folders(folder: Path) -> list[Path]:
    """The checkpoint folders below `folder`, newest first, verified or not."""
    return sorted((path for path in folder.glob("step-*") if path.is_dir()), reverse=True)


def newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that verifies, and why each newer one does not. None where there are no checkpoints.

    Raises NoUsableCheckpoint where there are some and none verifies.
    """
    complaints: list[str] = []
    for path in folders(folder):
        try:
            return verify(path), complaints
        except Damaged as damage:
            complaints.append(str(damage))
    if complaints:
        raise NoUsableCheckpoint(f"no checkpoint below {folder} verifies: {'; '.join(complaints)}")
    return None, complaints


def verify(path: Path) -> Checkpoint:
    """The checkpoint at `path`, every byte of it checked against its manifest. Raises Damaged."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        schema, step, files = manifest["schema"], manifest["step"], dict(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{path / MANIFEST} is missing or unreadable ({error})") from error
    if schema != MANIFEST_SCHEMA:
        raise Damaged(f"{path / MANIFEST} has schema {schema}; this version reads {MANIFEST_SCHEMA}")
    if path.name.startswith("step-") and path.name != f"step-{step:08d}":
        raise Damaged(f"{path / MANIFEST} is of step {step}")
    for name, expected in files.items():
        file = path / name
        if Path(name).name != name or not file.is_file():
            raise Damaged(f"{file} is missing")
        if file.stat().st_size != expected["bytes"]:
            raise Damaged(f"{file} has {file.stat().st_size} bytes instead of {expected['bytes']}")
        if _sha256(file) != expected["sha256"]:
            raise Damaged(f"{file} is corrupt: its sha256 is not the manifest's")
    return Checkpoint(path, manifest)


def find(path: Path) -> Checkpoint:
    """The newest checkpoint that verifies of a run folder, or the one at a checkpoint folder.

    Raises UserError where `path` is neither, NoUsableCheckpoint where nothing there verifies.
    """
    if (path / "checkpoints").is_dir():
        found, _ = newest(path / "checkpoints")
        if found is not None:
            return found
    elif (path / MANIFEST).exists() or path.name.startswith("step-"):
        try:
            return verify(path)
        except Damaged as damage:
            raise NoUsableCheckpoint(str(damage)) from None
    if not path.exists():
        raise UserError(f"there is no {path}; give a run folder, a checkpoint folder or an exported .safetensors file")
    raise UserError(
        f"{path} holds no checkpoint; give a run folder, a checkpoint folder or an exported .safetensors file"
    )


def network_tensors(networks: dict[str, nn.Module]) -> State:
    """Weights and running statistics by network."""
    return {name: dict(network.state_dict()) for name, network in networks.items()}


def optimizer_tensors(optimizer: Optimizer, owned: dict[str, nn.Module]) -> dict[str, Tensor]:
    """Adam's state by parameter name: `FE.down.weight/exp_avg`."""
    return {
        f"{name}/{key}": value
        for name, parameter in _named_parameters(owned)
        for key, value in optimizer.state[parameter].items()
    }


def restore_optimizer(optimizer: Optimizer, owned: dict[str, nn.Module], tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` took, in each parameter's memory layout. The optimizer's rates are its own."""
    names = {parameter: name for name, parameter in _named_parameters(owned)}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for number, parameter in enumerate(parameters):
        prefix = f"{names[parameter]}/"
        found = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        state[number] = {key: _laid_out_as(parameter, value) for key, value in found.items()}
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _laid_out_as(parameter: Tensor, value: Tensor) -> Tensor:
    """Fused Adam is silently wrong where the strides of weights and state differ."""
    if value.shape != parameter.shape:
        return value  # the step count
    return torch.empty_like(parameter, memory_format=torch.preserve_format).copy_(value)


def _named_parameters(owned: dict[str, nn.Module]) -> Iterator[tuple[str, nn.Parameter]]:
    for network, module in owned.items():
        for name, parameter in module.named_parameters():
            yield f"{network}.{name}", parameter


def _check_finite(state: State) -> None:
    for stem, tensors in state.items():
        for name, tensor in tensors.items():
            if not tensor.isfinite().all():
                raise Diverged(f"training diverged: {stem}.{name} is not finite; the checkpoints before it are kept")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Make what was written to a file, or named in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
