"""What makes a checkpoint count: its manifest, and every byte of the files that it names. Any of them may be forged.

Rank zero alone calls these functions; what it reads is handed to the others.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from infogan_dist.config.reading import parse_config
from infogan_dist.config.schema import Config
from infogan_dist.data.fingerprint import Fingerprint
from infogan_dist.errors import NoUsableCheckpoint, UserError
from infogan_dist.files import check_safetensors_header, open_regular, read_regular

MANIFEST = "manifest.json"
MANIFEST_SCHEMA = 1
MANIFEST_LIMIT = 64 * 2**20  # bytes: ours have some kilobytes; a file of this name may be anything

SEAL = "sha256"  # the manifest's own checksum

State = dict[str, dict[str, Tensor]]  # file stem -> tensor name -> tensor
Origin = dict[str, Any]  # `step` and `identity` of a checkpoint that a run was started from


class Damaged(Exception):
    """A checkpoint does not verify; the message names the file and the reason."""


class _FileFacts(BaseModel):
    """What a manifest says of one file."""

    model_config = ConfigDict(strict=True)
    sha256: str
    bytes: NonNegativeInt
    shapes: dict[str, list[NonNegativeInt]]


class _OriginFacts(BaseModel):
    """What a manifest says of a checkpoint that its run was started from."""

    model_config = ConfigDict(strict=True)
    step: NonNegativeInt
    identity: str


class _Facts(BaseModel):
    """What is read from a manifest; it may hold more."""

    model_config = ConfigDict(strict=True)
    step: NonNegativeInt
    files: dict[str, _FileFacts]
    images_seen: NonNegativeInt | None = None
    config: dict[str, Any] = {}
    scaler: dict[str, float] = {}
    nonfinite: dict[str, NonNegativeInt] = {}
    bad_steps: dict[str, NonNegativeInt] = {}  # the same in version 0.2
    resumed_from: list[_OriginFacts] = []
    initialised_from: _OriginFacts | None = None
    data: Fingerprint | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that verifies."""

    path: Path
    manifest: dict[str, Any]

    @property
    def step(self) -> int:
        return int(self.manifest["step"])

    @property
    def images_seen(self) -> int:
        """Images that training had used; of a manifest that does not say so, by its step and config."""
        found = self.manifest.get("images_seen")
        return int(found) if found is not None else self.step * self.config.train.global_batch

    @property
    def config(self) -> Config:
        """The config it was trained with. Raises UserError where this version does not read it."""
        try:
            return parse_config(self.manifest.get("config", {}))
        except UserError as error:
            raise UserError(f"{self.path / MANIFEST} holds a config that this version does not read: {error}") from None

    @property
    def origin(self) -> Origin:
        """What a run that starts from this checkpoint records: its step and the sha256 of its manifest, but not its path."""
        canonical = json.dumps(self.manifest, sort_keys=True)
        return {"step": self.step, "identity": hashlib.sha256(canonical.encode()).hexdigest()}

    @property
    def resumed_from(self) -> list[Origin]:
        """The checkpoints that its run was started from with --resume, oldest first."""
        return list(self.manifest.get("resumed_from", []))

    @property
    def skipped_updates(self) -> dict[str, int]:
        """Counts of skipped updates and rollbacks so far."""
        return dict(self.manifest.get("nonfinite") or self.manifest.get("bad_steps", {}))

    @property
    def images(self) -> Fingerprint | None:
        """The images it was trained on; None where its version did not record them."""
        recorded = self.manifest.get("data")
        return Fingerprint.model_validate(recorded) if recorded is not None else None

    def load(self, *names: str) -> State:
        """The tensors of the named files, or of all of them, on the CPU. Raises NoUsableCheckpoint where it lacks one."""
        stems = names or tuple(Path(file).stem for file in self.manifest["files"])
        for missing in {f"{stem}.safetensors" for stem in stems} - set(self.manifest["files"]):
            raise NoUsableCheckpoint(f"{self.path} holds no {missing}")
        return {stem: load_file(self.path / f"{stem}.safetensors") for stem in stems}


def verify(path: Path) -> Checkpoint:
    """The checkpoint at `path`, every byte of it checked against its manifest. Raises Damaged.

    Files that the manifest does not name are never read.
    """
    manifest = _read_manifest(path / MANIFEST)
    if path.name.startswith("step-") and path.name != f"step-{manifest['step']:08d}":
        raise Damaged(f"{path / MANIFEST} is of step {manifest['step']}")
    for name, facts in manifest["files"].items():
        if Path(name).name != name or not name.isprintable():
            raise Damaged(f"{path / MANIFEST} names {name!a}, which is no file of this folder")
        try:
            _verify_file(path / name, facts)
        except (OSError, SafetensorError) as error:
            raise Damaged(f"{path / name} cannot be read ({error})") from error
    return Checkpoint(path, manifest)


def sealed(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest with the sha256 of the rest of it."""
    content = {key: value for key, value in manifest.items() if key != SEAL}
    return {**content, SEAL: _canonical_sha256(content)}


def _canonical_sha256(content: dict[str, Any]) -> str:
    """Of the JSON with sorted keys and no spaces, in ASCII: the same for any layout of the file."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(read_regular(path, MANIFEST_LIMIT).decode("utf-8"))
        if not isinstance(manifest, dict):
            raise TypeError("it is no JSON object")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise Damaged(f"{path} is missing or unreadable ({error})") from error
    if manifest.get("schema") != MANIFEST_SCHEMA:
        raise Damaged(f"{path} has schema {manifest.get('schema')!r:.20}; this version reads {MANIFEST_SCHEMA}")
    if SEAL in manifest and sealed(manifest)[SEAL] != manifest[SEAL]:  # manifests of older versions have none
        raise Damaged(f"{path} is corrupt: its sha256 is not that of its content")
    try:
        _Facts.model_validate(manifest)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise Damaged(f"{path} is wrong in {'.'.join(map(str, first['loc']))!a}: {first['msg']}") from None
    return manifest


def _verify_file(file: Path, facts: dict[str, Any]) -> None:
    """Raises Damaged, or what reading raises. The header is held against the manifest: both may be forged alike."""
    if not file.is_file():
        raise Damaged(f"{file} is missing")
    if file.stat().st_size != facts["bytes"]:
        raise Damaged(f"{file} has {file.stat().st_size} bytes instead of {facts['bytes']}")
    if sha256(file) != facts["sha256"]:
        raise Damaged(f"{file} is corrupt: its sha256 is not the manifest's")
    check_safetensors_header(file)
    with safe_open(file, framework="pt") as tensors:
        shapes = {key: tensors.get_slice(key).get_shape() for key in tensors.keys()}  # noqa: SIM118 - no mapping
    if shapes != facts["shapes"]:
        raise Damaged(f"{file} holds other tensors or shapes than the manifest says")


def sha256(path: Path) -> str:
    """Of a file's bytes, in hexadecimal."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
