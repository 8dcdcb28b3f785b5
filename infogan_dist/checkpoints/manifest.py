"""The manifest of a checkpoint, and the verification of every byte of the files in it. All of them are untrusted.

Only rank zero calls these functions; it broadcasts what it reads.
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
MANIFEST_LIMIT = 64 * 2**20  # bytes; ours have a few kilobytes

CHECKSUM = "sha256"  # the key of the manifest's own checksum

State = dict[str, dict[str, Tensor]]  # file stem -> tensor name -> tensor
Origin = dict[str, Any]  # `step` and `identity` of the checkpoint that a run was started from


class Damaged(Exception):
    """A checkpoint does not verify. The message names the file and the reason."""


class _FileEntry(BaseModel):
    """A manifest's entry for one file."""

    model_config = ConfigDict(strict=True)
    sha256: str
    bytes: NonNegativeInt
    shapes: dict[str, list[NonNegativeInt]]


class _OriginEntry(BaseModel):
    """A manifest's entry for a checkpoint that its run was started from."""

    model_config = ConfigDict(strict=True)
    step: NonNegativeInt
    identity: str


class _RefinedEntry(BaseModel):
    """A manifest's entry for FE and Q that were fitted on G's images after training."""

    model_config = ConfigDict(strict=True)
    images: NonNegativeInt
    seed: int


class _Manifest(BaseModel):
    """The keys of a manifest that are read. It may have more."""

    model_config = ConfigDict(strict=True)
    step: NonNegativeInt
    files: dict[str, _FileEntry]
    images_seen: NonNegativeInt | None = None
    config: dict[str, Any] = {}
    scaler: dict[str, float] = {}
    nonfinite: dict[str, NonNegativeInt] = {}
    bad_steps: dict[str, NonNegativeInt] = {}  # `nonfinite` in version 0.2
    resumed_from: list[_OriginEntry] = []
    initialised_from: _OriginEntry | None = None
    data: Fingerprint | None = None
    refined: _RefinedEntry | None = None


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
        """Images seen in training. If the manifest does not record them, computed from its step and config."""
        recorded = self.manifest.get("images_seen")
        return int(recorded) if recorded is not None else self.step * self.config.train.global_batch

    @property
    def config(self) -> Config:
        """The config of its run. Raises UserError if this version cannot read it."""
        try:
            return parse_config(self.manifest.get("config", {}))
        except UserError as error:
            raise UserError(f"{self.path / MANIFEST} has a config that this version cannot read: {error}") from None

    @property
    def origin(self) -> Origin:
        """The record of this checkpoint in a run that starts from it: its step and the sha256 of its manifest, not its path."""
        canonical = json.dumps(self.manifest, sort_keys=True)
        return {"step": self.step, "identity": hashlib.sha256(canonical.encode()).hexdigest()}

    @property
    def resumed_from(self) -> list[Origin]:
        """The checkpoints that its run was started from with --resume, oldest first."""
        return list(self.manifest.get("resumed_from", []))

    @property
    def skipped_updates(self) -> dict[str, int]:
        """The numbers of skipped updates and rollbacks so far."""
        return dict(self.manifest.get("nonfinite") or self.manifest.get("bad_steps", {}))

    @property
    def images(self) -> Fingerprint | None:
        """The fingerprint of its train images; None in checkpoints of older versions."""
        recorded = self.manifest.get("data")
        return Fingerprint.model_validate(recorded) if recorded is not None else None

    @property
    def refined(self) -> dict[str, int] | None:
        """`images` of G and `seed` that FE and Q were fitted with after training; None if they are those of the training."""
        return self.manifest.get("refined")

    def load(self, *names: str) -> State:
        """The tensors of the named files, or of all files, on the CPU. Raises NoUsableCheckpoint if a file is missing."""
        stems = names or tuple(Path(file).stem for file in self.manifest["files"])
        for missing in {f"{stem}.safetensors" for stem in stems} - set(self.manifest["files"]):
            raise NoUsableCheckpoint(f"{self.path} has no {missing}")
        return {stem: load_file(self.path / f"{stem}.safetensors") for stem in stems}


def verify(path: Path) -> Checkpoint:
    """The checkpoint at `path`, after checking every byte against its manifest. Raises Damaged.

    Files that the manifest does not name are not read.
    """
    manifest = _read_manifest(path / MANIFEST)
    if path.name.startswith("step-") and path.name != f"step-{manifest['step']:08d}":
        raise Damaged(f"{path / MANIFEST} is of step {manifest['step']}")
    for name, entry in manifest["files"].items():
        if Path(name).name != name or not name.isprintable():
            raise Damaged(f"{path / MANIFEST} names {name!a}, which is not a file in this folder")
        try:
            _verify_file(path / name, entry)
        except (OSError, SafetensorError) as error:
            raise Damaged(f"{path / name} cannot be read ({error})") from error
    return Checkpoint(path, manifest)


def with_checksum(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest with the sha256 of its other keys."""
    content = {key: value for key, value in manifest.items() if key != CHECKSUM}
    return {**content, CHECKSUM: _canonical_sha256(content)}


def _canonical_sha256(content: dict[str, Any]) -> str:
    """The sha256 of the JSON with sorted keys and no spaces, in ASCII. It does not depend on the file's formatting."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(read_regular(path, MANIFEST_LIMIT).decode("utf-8"))
        if not isinstance(manifest, dict):
            raise TypeError("it is not a JSON object")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise Damaged(f"{path} is missing or unreadable ({error})") from error
    if manifest.get("schema") != MANIFEST_SCHEMA:
        raise Damaged(f"{path} has schema {manifest.get('schema')!r:.20}; this version reads {MANIFEST_SCHEMA}")
    if CHECKSUM in manifest and with_checksum(manifest)[CHECKSUM] != manifest[CHECKSUM]:  # older versions have none
        raise Damaged(f"{path} is corrupt: its sha256 does not match its content")
    try:
        _Manifest.model_validate(manifest)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise Damaged(f"{path} has an invalid {'.'.join(map(str, first['loc']))!a}: {first['msg']}") from None
    return manifest


def _verify_file(file: Path, entry: dict[str, Any]) -> None:
    """Compare a file's size, sha256 and header with its manifest entry. Raises Damaged, OSError or SafetensorError."""
    if not file.is_file():
        raise Damaged(f"{file} is missing")
    if file.stat().st_size != entry["bytes"]:
        raise Damaged(f"{file} has {file.stat().st_size} bytes instead of {entry['bytes']}")
    if sha256(file) != entry["sha256"]:
        raise Damaged(f"{file} is corrupt: its sha256 is not the manifest's")
    check_safetensors_header(file)
    with safe_open(file, framework="pt") as tensors:
        shapes = {key: tensors.get_slice(key).get_shape() for key in tensors.keys()}  # noqa: SIM118 - no mapping
    if shapes != entry["shapes"]:
        raise Damaged(f"{file} has other tensors or shapes than the manifest")


def sha256(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
