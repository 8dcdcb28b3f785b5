"""Networks of this package that Accelerate's `save_state`, or torch.save of a state_dict, wrote in a program of one's own.

The files hold weights alone: the config says which networks they are of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from infogan_dist.config.reading import load_config
from infogan_dist.config.schema import Config
from infogan_dist.errors import UserError
from infogan_dist.export.importers.imported import Imported
from infogan_dist.export.importers.pickled import read_pickled, tensors_in
from infogan_dist.files import check_safetensors_header
from infogan_dist.networks import networks_on_meta
from infogan_dist.networks.loading import first_misfit
from infogan_dist.sampling.pretrained import Pretrained

PATTERNS = ("model*.safetensors", "pytorch_model*.bin")  # of the models that save_state writes; optimizers are not read
WRAPPERS = ("module", "_orig_mod")  # that DDP and torch.compile put into the names
CONFIG = "config.yaml"


def read(path: Path, config: Config | None) -> Imported:
    """G (G_ema where the file holds one), and FE and Q where they are there, from a folder of `save_state` or one file of weights.

    Names are those of the four networks, `G.lift.weight`, or of G alone, `lift.weight`. Without a config, the config.yaml beside the
    weights counts. Raises UserError where there is none or the weights are not those that it describes.
    """
    folder = path if path.is_dir() else path.parent
    if config is None and not (folder / CONFIG).is_file():
        raise UserError(
            f"{path} holds weights alone; give --config CONFIG, what they were trained with, or put a {CONFIG} beside them"
        )
    config = config or load_config(folder / CONFIG)
    expected = {name: network.state_dict() for name, network in networks_on_meta(config).items()}
    held: dict[str, dict[str, Tensor]] = {}
    for tensors in _files(path):
        for name, names in expected.items():
            alone = name == "G" and set(tensors) == set(names)
            prefix = "" if alone else f"{name}."
            inner = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            if inner:
                held.setdefault(name, inner)
    G = held.get("G_ema", held.get("G"))
    if G is None:
        raise UserError(f"{path} holds no G: neither names such as G.{next(iter(expected['G']))}, nor those of G alone")
    networks = {"G": G, **{name: held[name] for name in ("FE", "Q") if {"FE", "Q"} <= held.keys()}}
    for name, tensors in networks.items():
        like = {key: each.to(next(iter(tensors.values())).dtype) for key, each in expected[name].items()}
        misfit = first_misfit(tensors, like)
        if misfit is not None:
            raise UserError(f"{path} is not of this config: {name} {misfit}")
    missing = {"no average of G, so G itself draws": "G_ema" not in held, "no FE and Q": len(networks) == 1}
    said = " and ".join(what for what, is_missing in missing.items() if is_missing)
    return Imported(Pretrained(config, networks), f"the weights hold {said}" if said else "")


def _files(path: Path) -> Iterator[Mapping[str, Tensor]]:
    """The tensors of each file of weights, without the names of wrappers."""
    paths = [found for pattern in PATTERNS for found in sorted(path.glob(pattern))] if path.is_dir() else [path]
    if not paths:
        raise UserError(f"{path} holds neither {' nor '.join(PATTERNS)}, which Accelerate's save_state writes")
    for each in paths:
        tensors = _read_safetensors(each) if each.suffix == ".safetensors" else tensors_in(read_pickled(each), each)
        yield {_unwrapped(name): tensor for name, tensor in tensors.items()}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        check_safetensors_header(path)
        tensors: dict[str, torch.Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} is not a safetensors file: {error}") from error
    return tensors


def _unwrapped(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)
