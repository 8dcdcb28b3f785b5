"""Checkpoints: a folder of safetensors files that counts only once its manifest, written last, verifies.

Nothing is pickled. Rank zero alone calls these functions; what it reads is handed to the others.
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
    sealed,
    sha256,
    verify,
)
from infogan_dist.distributed.launcher import prints_messages
from infogan_dist.errors import Diverged, NoUsableCheckpoint, UserError
from infogan_dist.files import path_problem, sync, write_safetensors

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


def versions() -> dict[str, str]:
    """What made a file: this package and the libraries that decide its numbers."""
    libraries = {name: version(name) for name in ("torch", "accelerate", "safetensors")}
    return {"infogan_dist": infogan_dist.__version__, **libraries, "python": platform.python_version()}


def snapshot(state: State) -> State:
    """A copy on the CPU, which goes on as it is while the networks are trained. Raises Diverged for a number that is not finite."""
    check_finite(state)
    return {
        stem: {key: tensor.detach().to("cpu", copy=True).contiguous() for key, tensor in tensors.items()}
        for stem, tensors in state.items()
    }


def save(folder: Path, state: State, facts: dict[str, Any]) -> Path:
    """Write `state` as folder/step-XXXXXXXX, whole or not at all; `facts` must hold `step` and goes into the manifest.

    Raises Diverged rather than write a number that is not finite; an OSError leaves earlier checkpoints as they were, and
    of this one nothing but, where the process is killed, a folder `.tmp-step-XXXXXXXX` to `clear`.
    """
    check_finite(state)
    final = path_of(folder, facts["step"])
    partial = folder / f".tmp-{final.name}"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        files = {}
        for stem, tensors in state.items():
            path = partial / f"{stem}.safetensors"
            write_safetensors(path, tensors)
            sync(path)
            shapes = {key: list(tensor.shape) for key, tensor in tensors.items()}
            files[path.name] = {"sha256": sha256(path), "bytes": path.stat().st_size, "shapes": shapes}
        manifest = sealed({"schema": MANIFEST_SCHEMA, **facts, "versions": versions(), "files": files})
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        sync(partial / MANIFEST)
        sync(partial)
        if final.exists():  # a damaged one of the same step: a sound one is never written twice
            shutil.rmtree(final)
        partial.rename(final)
        sync(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return final


def prune(folder: Path, step: int, keep: int, keep_every: int = 0) -> None:
    """Remove the checkpoints before `step` but the newest, `keep` with that of `step`, and, unless it is 0, those of every
    `keep_every`-th step. Newer ones do not count: a run that saves at `step` could not use them."""
    kept = [path for path in folders(folder) if step_of(path) <= step]
    for path in kept[keep:]:
        if not keep_every or step_of(path) % keep_every:
            path.rename(folder / f".tmp-{path.name}")  # half removed it would be a damaged checkpoint
    clear(folder)


def clear(folder: Path) -> None:
    """Remove what interrupted saves and removals left behind."""
    for path in folder.glob(".tmp-step-*"):
        shutil.rmtree(path)


def folders(folder: Path) -> list[Path]:
    """The checkpoint folders below `folder`, newest first, verified or not."""
    found = [path for path in folder.glob("step-*") if path.is_dir() and path.name.removeprefix("step-").isdecimal()]
    return sorted(found, key=step_of, reverse=True)


def path_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return folder / f"step-{step:08d}"


def step_of(path: Path) -> int:
    """The step that the name of a checkpoint folder says."""
    return int(path.name.removeprefix("step-"))


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
        raise NoUsableCheckpoint(
            f"no checkpoint below {folder} verifies: {'; '.join(complaints)}; put a sound copy there, "
            "or move the run folder away to start afresh"
        )
    return None, complaints


def find(path: Path) -> Checkpoint:
    """The newest checkpoint that verifies of a run folder, or the one at a checkpoint folder. Says which ones it passes over.

    Raises UserError where `path` is neither, NoUsableCheckpoint where nothing there verifies.
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
        f"{path} holds no checkpoint; give a run folder, a checkpoint folder or an exported .safetensors file"
    )


def find_with_networks(path: Path, option: str) -> Checkpoint:
    """As `find`, for an option that needs all networks. Raises UserError for an exported file, which lacks some."""
    if path.suffix == ".safetensors":
        raise UserError(
            f"{option} {path}: an exported file holds G, and not FE, D and Q to train; give a run folder or a checkpoint folder"
        )
    return find(path)


def holder(path: Path) -> Path | None:
    """The run folder or checkpoint folder that `path` is or lies in; None where there is none."""
    absolute = path.resolve()
    return next((folder for folder in (absolute, *absolute.parents) if _is_run(folder) or is_checkpoint(folder)), None)


def is_checkpoint(folder: Path) -> bool:
    """Whether `folder` looks like a checkpoint, sound or not."""
    return (folder / MANIFEST).is_file() and any(folder.glob("*.safetensors"))


def _is_run(folder: Path) -> bool:
    return (folder / "config.yaml").is_file() and ((folder / "checkpoints").is_dir() or (folder / ".lock").is_file())


@cache
def _warn(message: str) -> None:
    """Say it on one process of a host, once: a command may look for a checkpoint several times."""
    if prints_messages(os.environ):
        print(f"infogan-dist: {message}", file=sys.stderr)


def check_finite(state: State) -> None:
    """Raises Diverged for a number that is not finite."""
    for stem, tensors in state.items():
        for name, tensor in tensors.items():
            # a sum is finite where all numbers are, and many times sooner there; but for one that overflows
            if not tensor.sum().isfinite() and not tensor.isfinite().all():
                raise Diverged(f"{stem}.{name} is not finite, and no checkpoint is made of it")
