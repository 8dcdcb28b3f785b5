"""Compares the configs of runs: which differ in more than their seed, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from infogan_dist.config import yaml_core
from infogan_dist.config.reading import dotted, parse_config
from infogan_dist.config.schema import Config
from infogan_dist.export.report.runs import Run

PATHS = ("output", "data.root")  # keys of a machine, not of an experiment
MOST_NAMED = 2  # keys in the title of a group


@dataclass(frozen=True)
class Group:
    """Runs whose configs differ only in the seed and in paths."""

    title: str
    """The values that only this group has, as `key=value, ...`; its runs if they are many; empty if there is one group."""
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Difference:
    """A config key and its value in each run as YAML; None for a run without a config."""

    key: str
    values: tuple[str | None, ...]


def groups(runs: Sequence[Run]) -> list[Group]:
    """The runs by config, in their order. A run without a config is a group by itself."""
    found: list[tuple[dict[str, Any] | None, list[Run]]] = []
    for run in runs:
        values = _values(run, (*PATHS, "seed"))
        same = next((members for known, members in found if known is not None and known == values), None)
        if same is not None:
            same.append(run)
        else:
            found.append((values, [run]))
    known = [values for values, _ in found if values is not None]
    keys = [key for key in _keys(known) if len({_text(values, key) for values in known}) > 1]
    return [Group(_title(values, keys, members), tuple(members)) for values, members in found]


def differences(runs: Sequence[Run]) -> list[Difference]:
    """The keys whose values differ between runs. Without paths."""
    each = [_values(run, PATHS) for run in runs]
    found = [
        Difference(key, tuple(_text(values, key) if values is not None else None for values in each))
        for key in _keys([values for values in each if values is not None])
    ]
    return [difference for difference in found if len(set(difference.values) - {None}) > 1]


def changes(config: Config) -> list[Difference]:
    """The keys whose values are not the defaults: the config's value and the default. Without paths."""
    defaults = dotted(parse_config({"output": config.output}))
    values = dotted(config)
    return [
        Difference(key, (_text(values, key), _text(defaults, key)))
        for key in values
        if key not in PATHS and _text(values, key) != _text(defaults, key)
    ]


def shareable(config: Config, name: str) -> str:
    """The config as YAML with the output runs/`name`, and without the folders above data.root, which belong to one machine."""
    values = config.model_dump(mode="json")
    values["output"] = f"runs/{name}"
    root = values["data"]["root"]
    values["data"]["root"] = PurePath(root).name if root is not None and PurePath(root).is_absolute() else root
    return yaml_core.dump(values)


def _title(values: dict[str, Any] | None, keys: Sequence[str], runs: Sequence[Run]) -> str:
    if values is not None and len(keys) <= MOST_NAMED:
        return ", ".join(f"{key}={_text(values, key)}" for key in keys)
    return runs[0].name if len(runs) == 1 else f"{runs[0].name} and {len(runs) - 1} more"


def _values(run: Run, without: Sequence[str]) -> dict[str, Any] | None:
    if run.config is None:
        return None
    return {key: value for key, value in dotted(run.config).items() if key not in without}


def _keys(configs: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for values in configs for key in values))


def _text(values: dict[str, Any], key: str) -> str:
    """A value as flow YAML."""
    return yaml_core.inline(values[key]) if key in values else "absent"
