"""Lists the keys of the config with defaults and meanings, and suggests keys for an unknown one."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from infogan_dist.config import version1
from infogan_dist.config.schema import Config

MEANT = {  # common names in other trainers
    "batch": "train.global_batch",
    "batch_size": "train.global_batch",
    "max_steps": "train.steps",
    "num_steps": "train.steps",
    "iterations": "train.steps",
    "learning_rate": "optimizer.lr",
    "dtype": "train.precision",
    "mixed_precision": "train.precision",
    "gradient_accumulation_steps": "train.accumulate",
    "dataset": "data.name",
    "data_dir": "data.root",
    "output_dir": "output",
    "image_dim": "data.image_size",
    "resolution": "data.image_size",
    "z_dim": "latents.noise",
    "save_every": "checkpoint.every",
}
NO_KEY = {
    "device": "the launcher decides where training runs; CUDA_VISIBLE_DEVICES= (empty) keeps it on the CPU",
    "epochs": "the length of a run is train.steps: epochs * images / train.global_batch",
    "gpus": "the number of processes belongs to the launcher: accelerate launch --num_processes N",
    "num_processes": "the number of processes belongs to the launcher: accelerate launch --num_processes N",
    "world_size": "the number of processes belongs to the launcher: accelerate launch --num_processes N",
    "num_workers": "images are read by threads of each process; there is no number to set",
    "workers": "images are read by threads of each process; there is no number to set",
}


@dataclass(frozen=True)
class Key:
    """One key: its dotted name, default (None if it is required), and meaning."""

    name: str
    default: Any
    required: bool
    meaning: str


@cache
def config_keys() -> tuple[Key, ...]:
    """Every key that has a value, in the order of the schema."""
    return tuple(_below(Config, ""))


@cache
def sections() -> dict[str, str]:
    """The meaning of each section by its dotted name."""
    return {name: " ".join((section.__doc__ or "").split()) for name, section in _sections(Config, "")}


def hint(key: str) -> str:
    """A suggestion for the unknown `key`, as the end of a sentence; empty if no key is similar."""
    if key in version1.RENAMED:
        return f"; it is {version1.RENAMED[key]} since schema version 2"
    word = key.rpartition(".")[2]
    if word in NO_KEY:
        return f"; {NO_KEY[word]}"
    near = nearest(MEANT.get(word, key))
    return f"; did you mean {_joined(near)}?" if near else ""


def nearest(key: str) -> list[str]:
    """The known keys most similar to `key`: those with its last word, else those with the nearest spelling."""
    names = [*(each.name for each in config_keys()), *sections()]
    section, _, word = key.rpartition(".")
    same_word = [name for name in names if name.rpartition(".")[2] == word]
    below = [name for name in same_word if section and name.startswith(f"{section}.")]
    if same_word:
        return below or same_word[:3]
    by_word: dict[str, list[str]] = {}
    for name in names:
        by_word.setdefault(name.rpartition(".")[2], []).append(name)
    spelled = difflib.get_close_matches(word, by_word, n=1, cutoff=0.7)
    if spelled:
        found = by_word[spelled[0]]
        inside = [name for name in found if section and name.startswith(f"{section}.")]
        return (inside or found)[:3]
    return difflib.get_close_matches(key, names, n=1, cutoff=0.6)


def _joined(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def _below(section: type[BaseModel], prefix: str) -> Iterator[Key]:
    for name, field in section.model_fields.items():
        inner = _section_of(field.annotation)
        if inner is not None:
            yield from _below(inner, f"{prefix}{name}.")
            continue
        required = field.default is PydanticUndefined
        meaning = " ".join((field.description or "").split())
        yield Key(f"{prefix}{name}", None if required else field.default, required, meaning)


def _sections(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in section.model_fields.items():
        inner = _section_of(field.annotation)
        if inner is not None:
            yield f"{prefix}{name}", inner
            yield from _sections(inner, f"{prefix}{name}.")


def _section_of(annotation: Any) -> type[BaseModel] | None:
    plain = typing.get_origin(annotation) is None and isinstance(annotation, type)
    return annotation if plain and issubclass(annotation, BaseModel) else None
