"""A trained model apart from its run: what `convert` writes into one safetensors file, and how it is read from anywhere.

tensors     G.lift.weight, ...: the averaged G, and FE and Q where they were asked for
metadata    infogan_dist            the config as JSON, without paths
            infogan_dist.networks   G, or G,FE,Q; files without this key hold G alone, its tensors named without the prefix
            infogan_dist.step, infogan_dist.images_seen, infogan_dist.code_names   where they are known
            format, modelspec.*     for other readers of safetensors (ModelSpec 1.0)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from infogan_dist.checkpoints import store as checkpoints
from infogan_dist.checkpoints.store import Checkpoint, State
from infogan_dist.config.reading import parse_config
from infogan_dist.config.schema import Config
from infogan_dist.errors import UserError
from infogan_dist.files import atomic_write, check_safetensors_header, path_problem, read_regular, write_safetensors
from infogan_dist.networks.loading import load_network
from infogan_dist.sampling import hub

ENDING = ".safetensors"
HEADER = "infogan_dist"  # the metadata's key of the config, and the beginning of the others
CODE_NAMES = "code_names.json"  # in a run folder
CODE_NAMES_LIMIT = 2**20  # bytes of that file: ours have some hundred
IN_CHECKPOINT = {"G": "G_ema", "FE": "FE", "Q": "Q"}  # the average is what draws
REDUCED = (torch.float16, torch.bfloat16)  # weights may be stored in these; CPUs compute in float32


@dataclass(frozen=True)
class Provenance:
    """What travels with the weights. `code_names` is the JSON of evaluation/code_names.py, which says the step it is of."""

    step: int | None = None
    images_seen: int | None = None
    code_names: str | None = None


@dataclass(frozen=True)
class Pretrained:
    """A config, the tensors of some of G, FE and Q, and what travels with them. `source` is what messages call it."""

    config: Config
    tensors: State
    provenance: Provenance = field(default_factory=Provenance)
    source: str = ""

    def network(self, name: str) -> nn.Module:
        """One network in evaluation mode, on the CPU, in float32 where it is stored in less. Raises UserError where the tensors
        are not those that the config describes."""
        try:
            network = load_network(name, self.config, self.tensors[name])
        except ValueError as error:
            raise UserError(f"{self.source} does not hold the weights its config describes: {error}") from error
        weight = next(network.parameters())
        return network.to(torch.float32 if weight.dtype in REDUCED else weight.dtype).eval().requires_grad_(False)


def load(path: str | Path, *names: str) -> Pretrained:
    """The networks `names` (G, FE, Q) of a run folder (its newest checkpoint that verifies), a checkpoint folder, an exported
    file, a folder from `convert --to huggingface` or a hub repo id, `user/name`.

    Raises UserError where `path` is none of these or lacks a network, NoUsableCheckpoint where a checkpoint does not verify.
    """
    found = _located(path)
    if isinstance(found, Path):
        return _read(found, names)
    tensors = found.load(*(IN_CHECKPOINT[name] for name in names))
    by_name = {name: tensors[IN_CHECKPOINT[name]] for name in names}
    return Pretrained(found.config, by_name, _provenance(found), str(path))


def provenance(path: str | Path) -> Provenance:
    """What travels with the weights of a model that `load` reads. Raises as `load` does."""
    found = _located(path)
    return _read(found, ()).provenance if isinstance(found, Path) else _provenance(found)


def save(model: Pretrained, path: str | Path, dtype: torch.dtype | None = None) -> None:
    """Write one file that `load` reads, its weights in `dtype` where one is given. Raises UserError, or OSError; no file is left
    then."""
    path = Path(path)
    if path.suffix != ENDING:
        raise UserError(f"{path} does not end in {ENDING}")
    tensors = {f"{name}.{key}": each for name, state in model.tensors.items() for key, each in state.items()}
    if dtype is not None:
        tensors = stored_as(tensors, dtype)
    with atomic_write(path) as partial:
        write_safetensors(partial, tensors, {"format": "pt", **metadata(model), **_model_spec(model)})


def stored_as(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """The same numbers in `dtype`. Raises UserError where one is too large for it."""
    converted = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    for name, tensor in converted.items():
        if not tensor.isfinite().all():
            largest = tensors[name].abs().max().item()
            raise UserError(f"{name} holds {largest:g}, too large for {dtype}; use --dtype bf16 or fp32")
    return converted


def metadata(model: Pretrained) -> dict[str, str]:
    """What an exported file says of a model in any format, by key. No path of this machine is in it."""
    known = model.provenance
    optional = {"step": known.step, "images_seen": known.images_seen, "code_names": known.code_names}
    return {
        HEADER: model.config.without_paths().model_dump_json(),
        f"{HEADER}.networks": ",".join(model.tensors),
        **{f"{HEADER}.{key}": str(value) for key, value in optional.items() if value is not None},
    }


def title(config: Config, provenance: Provenance) -> str:
    """A model in a few words: family, data and how far it was trained."""
    step = "" if provenance.step is None else f", step {provenance.step}"
    return f"InfoGAN ({config.networks.family}) on {config.data.name}{step}"


def _model_spec(model: Pretrained) -> dict[str, str]:
    size = model.config.data.image_size
    spec = {
        "sai_model_spec": "1.0.1",
        "architecture": f"infogan/{model.config.networks.family}",
        "implementation": "infogan_dist",
        "title": title(model.config, model.provenance),
        "resolution": f"{size}x{size}",
    }
    return {f"modelspec.{key}": value for key, value in spec.items()}


def _located(path: str | Path) -> Checkpoint | Path:
    """The checkpoint that `path` means, or the safetensors file."""
    name, path = str(path), Path(path)
    problem = path_problem(name)
    if problem is not None:
        raise UserError(f"there is no model at a path that {problem}; give {hub.WHAT_LOADS}")
    if path.is_dir() and (path / hub.MODEL).is_file() and not checkpoints.is_checkpoint(path):
        return path / hub.MODEL
    if path.suffix == ENDING:
        return path
    if path.exists() and not path.is_dir():
        raise UserError(
            f"{path} does not end in {ENDING}; give {hub.WHAT_LOADS}, or import another program's file with convert --from"
        )
    return hub.download(name) if hub.is_repo(name) else checkpoints.find(path)


def _provenance(checkpoint: Checkpoint) -> Provenance:
    folder = checkpoint.path.parent
    file = folder.parent / CODE_NAMES
    names = None
    if folder.name == "checkpoints" and file.exists():
        try:
            names = read_regular(file, CODE_NAMES_LIMIT).decode("utf-8")
        except (OSError, ValueError) as error:
            raise UserError(f"{file} cannot be read ({error}); remove it") from None
    return Provenance(checkpoint.step, checkpoint.images_seen, names)


def _read(path: Path, names: tuple[str, ...]) -> Pretrained:
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    try:
        check_safetensors_header(path)
        with safe_open(path, framework="pt") as file:
            said = file.metadata() or {}
            keys = list(file.keys())
            networks = said.get(f"{HEADER}.networks")
            prefix = {name: f"{name}." if networks is not None else "" for name in names}
            held = ["G"] if networks is None else [name for name in IN_CHECKPOINT if name in networks.split(",")]
            tensors = {
                name: {
                    key.removeprefix(prefix[name]): file.get_tensor(key) for key in keys if key.startswith(prefix[name])
                }
                for name in names
                if name in held
            }
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a safetensors file: {error}") from error
    if HEADER not in said:
        raise UserError(
            f"{path} is a safetensors file, but not one that `infogan-dist convert` wrote: no config in its header"
        )
    missing = [name for name in names if name not in tensors]
    if missing:
        raise UserError(
            f"{path} holds {' and '.join(held) or 'no network'} alone, no {' and no '.join(missing)}; "
            "`infogan-dist convert CHECKPOINT --with-q` writes them as well"
        )
    try:
        config = parse_config(json.loads(said[HEADER]))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: the config in its header is not one of ours: {error}") from error
    step, seen = (_number(said.get(f"{HEADER}.{key}")) for key in ("step", "images_seen"))
    return Pretrained(config, tensors, Provenance(step, seen, said.get(f"{HEADER}.code_names")), str(path))


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() and len(text) < 20 else None
