"""Saves and finds checkpoints: folders of safetensors files that are valid once their manifest, written last, verifies.

Nothing is pickled. Only rank zero calls these functions; it broadcasts what it reads.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import infogan_dist
from infogan_dist.checkpoints.manifest import (
    MANIFEST,
    MANIFEST_SCHEMA,
    Checkpoint,
    Damaged,
    Origin,
    State,
    sha256,
    verify,
    with_checksum,
)
from infogan_dist.distributed.launcher import prints_messages
from infogan_dist.errors import Diverged, NoUsableCheckpoint, UserError
from infogan_dist.files import atomic_folder, path_problem, sync, write_safetensors

__all__ = [
    "Checkpoint",
    "Damaged",
    "Origin",
    "State",
    "find",
    "folders",
    "newest",
    "prune",
    "save",
    "step_of",
    "verify",
    "versions",
]

REFINED = "refined"  # the folder in a run folder with what `infogan-dist refine` fitted, in the format of a checkpoint


def versions() -> dict[str, str]:
    """The versions of this package, Python and the libraries that affect the numbers."""
    libraries = {name: version(name) for name in ("torch", "accelerate", "safetensors")}
    return {"infogan_dist": infogan_dist.__version__, **libraries, "python": platform.python_version()}


def snapshot(state: State) -> State:
    """A copy of `state` on the CPU that training does not change. Raises Diverged if a number is not finite."""
    check_finite(state)
    return {
        stem: {key: tensor.detach().to("cpu", copy=True).contiguous() for key, tensor in tensors.items()}
        for stem, tensors in state.items()
    }


def save(folder: Path, state: State, metadata: dict[str, Any]) -> Path:
    """Write `state` to folder/step-XXXXXXXX atomically. `metadata` goes into the manifest and must contain `step`.

    Raises Diverged if a number is not finite. An OSError changes no earlier checkpoint and leaves no part of this one. A killed
    process may leave a folder `.tmp-step-XXXXXXXX`, which `clear` removes.
    """
    check_finite(state)
    final = path_of(folder, metadata["step"])
    partial = folder / f".tmp-{final.name}"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        _write(partial, state, metadata)
        if final.exists():  # a damaged one: a valid checkpoint is never written twice
            shutil.rmtree(final)
        partial.rename(final)
        sync(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return final


def save_refined(run: Path, state: State, metadata: dict[str, Any]) -> Path:
    """Write `state` to run/refined atomically, in place of an earlier one. Otherwise as `save`."""
    check_finite(state)
    final = run / REFINED
    with atomic_folder(final) as partial:
        _write(partial, state, metadata)
        if final.exists():
            shutil.rmtree(final)
    sync(run)
    return final


def _write(folder: Path, state: State, metadata: dict[str, Any]) -> None:
    """Write the files and, last, the manifest of a checkpoint to an empty folder, and fsync them."""
    files = {}
    for stem, tensors in state.items():
        path = folder / f"{stem}.safetensors"
        write_safetensors(path, tensors)
        sync(path)
        shapes = {key: list(tensor.shape) for key, tensor in tensors.items()}
        files[path.name] = {"sha256": sha256(path), "bytes": path.stat().st_size, "shapes": shapes}
    manifest = with_checksum({"schema": MANIFEST_SCHEMA, **metadata, "versions": versions(), "files": files})
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    sync(folder / MANIFEST)
    sync(folder)


def prune(folder: Path, step: int, keep: int, keep_every: int = 0) -> None:
    """Remove old checkpoints up to `step`, except the newest `keep` and those of steps divisible by `keep_every`, unless it is 0.

    Checkpoints after `step` are ignored: the run that saved at `step` could not use them."""
    found = [path for path in folders(folder) if step_of(path) <= step]
    for path in found[keep:]:
        if not keep_every or step_of(path) % keep_every:
            path.rename(folder / f".tmp-{path.name}")  # a half-removed folder would be a damaged checkpoint
    clear(folder)


def clear(folder: Path) -> None:
    """Remove what interrupted saves and removals have left."""
    for path in folder.glob(".tmp-step-*"):
        shutil.rmtree(path)


def folders(folder: Path) -> list[Path]:
    """The checkpoint folders in `folder`, newest first, not verified."""
    found = [path for path in folder.glob("step-*") if path.is_dir() and path.name.removeprefix("step-").isdecimal()]
    return sorted(found, key=step_of, reverse=True)


def path_of(folder: Path, step: int) -> Path:
    """The path of the checkpoint of a step."""
    return folder / f"step-{step:08d}"


def step_of(path: Path) -> int:
    """The step in the name of a checkpoint folder."""
    return int(path.name.removeprefix("step-"))


def newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that verifies, or None if there are no checkpoints, and why each newer one does not verify.

    Raises NoUsableCheckpoint if there are checkpoints and none verifies.
    """
    complaints: list[str] = []
    for path in folders(folder):
        try:
            return verify(path), complaints
        except Damaged as damage:
            complaints.append(str(damage))
    if complaints:
        raise NoUsableCheckpoint(
            f"no checkpoint in {folder} verifies: {'; '.join(complaints)}; put a valid copy there, "
            "or move the run folder away to start a new run"
        )
    return None, complaints


def find(path: Path) -> Checkpoint:
    """The newest checkpoint of a run folder that verifies, or the checkpoint in a checkpoint folder. Warns of damaged ones it skips.

    Raises UserError if `path` is neither, and NoUsableCheckpoint if nothing there verifies.
    """
    problem = path_problem(str(path))
    if problem is not None:
        raise UserError(
            f"the path of the checkpoint {problem}; give a run folder, a checkpoint folder or an exported file"
        )
    if (path / "checkpoints").is_dir():
        found, complaints = newest(path / "checkpoints")
        if found is not None:
            for complaint in complaints:
                _warn(f"skipping a damaged checkpoint: {complaint}")
            return found
    elif (path / MANIFEST).exists() or path.name.startswith("step-"):
        try:
            return verify(path)
        except Damaged as damage:
            raise NoUsableCheckpoint(str(damage)) from None
    if not path.exists():
        raise UserError(f"there is no {path}; give a run folder, a checkpoint folder or an exported .safetensors file")
    raise UserError(
        f"{path} has no checkpoint; give a run folder, a checkpoint folder or an exported .safetensors file"
    )


def find_with_networks(path: Path, option: str) -> Checkpoint:
    """`find` for an option that needs all networks. Raises UserError for an exported file, which does not have all."""
    if path.suffix == ".safetensors":
        raise UserError(
            f"{option} {path}: an exported file holds G, and not FE, D and Q to train; give a run folder or a checkpoint folder"
        )
    return find(path)


def holder(path: Path) -> Path | None:
    """The run folder or checkpoint folder that `path` is or is in; None if there is none."""
    absolute = path.resolve()
    return next((folder for folder in (absolute, *absolute.parents) if _is_run(folder) or is_checkpoint(folder)), None)


def is_checkpoint(folder: Path) -> bool:
    """Whether `folder` looks like a checkpoint. It may be damaged."""
    return (folder / MANIFEST).is_file() and any(folder.glob("*.safetensors"))


def _is_run(folder: Path) -> bool:
    return (folder / "config.yaml").is_file() and ((folder / "checkpoints").is_dir() or (folder / ".lock").is_file())


@cache
def _warn(message: str) -> None:
    """Print a message once, on one process per host: a command may look for a checkpoint several times."""
    if prints_messages(os.environ):
        print(f"infogan-dist: {message}", file=sys.stderr)


def check_finite(state: State) -> None:
    """Raises Diverged if a number is not finite."""
    for stem, tensors in state.items():
        for name, tensor in tensors.items():
            # the sum is a faster test; it may overflow though all numbers are finite
            if not tensor.sum().isfinite() and not tensor.isfinite().all():
                raise Diverged(f"{stem}.{name} is not finite, so no checkpoint is saved")
