"""Configs from files, overrides and plain values, strictly: defaults < YAML < `key.path=value` on the command line.

Importing this module does not import torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from infogan_dist.config import keys, version1, yaml_core
from infogan_dist.config.schema import Config
from infogan_dist.errors import UserError
from infogan_dist.files import path_problem, read_regular

SHIPPED_CONFIGS = (
    Path(__file__).parents[1] / "configs",
    Path(__file__).parents[2] / "configs",
)  # in a wheel, in a checkout

# Keys that may differ when a run continues: paths and intervals, no number of the training.
FREE_TO_CHANGE = (
    *("schema_version", "output", "data.root", "train.steps", "train.threads", "train.cuda_graph"),
    *("log", "sample", "evaluate", "checkpoint", "collapse"),
    *("augmentation.preset",),  # its values count
    *("processes.check_every", "processes.timeout", "processes.pin_cores"),
)
FRACTIONS = (  # of the run's images
    *("schedule.warm_up", "schedule.anneal_from", "schedule.anneal_until"),
    *("objective.clustering_from", "objective.clustering_in_full", "latents.prior_from"),
)

CONFIG_LIMIT = 2**20  # bytes of a YAML file: ours have some thousand

_WRONG_NAME = ("extra_forbidden", "missing")  # pydantic's names of the two errors in a key rather than in its value


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The config in a YAML file, or the shipped one of that name, with `key.path=value` overrides applied.

    Raises UserError, one line, naming the key, the value, the nearest known key and where it stands.
    """
    text, where = _read(Path(path))
    values = yaml_core.load(text, where)
    if not isinstance(values, dict):
        raise UserError(f"{where} holds no mapping of config keys")
    if version1.is_version_1(values):
        values = version1.translate(values, where)
    places = {key: f"{where}:{line}" for key, line in yaml_core.key_lines(text).items()}
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise UserError(f"{override!r} is not of the form key.path=value")
        _set(values, key.split("."), yaml_core.load(value, f"the value of {key}"), override)
        places[key] = f"in {override!r}"
    return _validated(values, places)


def parse_config(values: dict[str, Any]) -> Config:
    """The config of plain values, as YAML or JSON give them. Raises UserError, one line."""
    if isinstance(values, dict) and version1.is_version_1(values):
        values = version1.translate(values, "the config")
    return _validated(values, {})


def dump_config(config: Config) -> str:
    """YAML that loads back to an equal config, every key written out."""
    return yaml_core.dump(config.model_dump(mode="json"))


def dotted(config: Config) -> dict[str, Any]:
    """Every value by its dotted key."""
    return _flat(config.model_dump(mode="json"))


def changed_numbers(old: Config, new: Config) -> Iterator[tuple[str, Any, Any]]:
    """The dotted keys, with old and new value, that differ and would change a number of the training.

    Fractions are compared in images. Where `new` leaves schedule.images open, it takes those of `old`.
    """
    images = old.run_images, new.schedule.images or old.run_images
    before, after = (
        {**dotted(config), "schedule.images": count} for config, count in zip((old, new), images, strict=True)
    )
    for key in before | after:
        free = any(key == name or key.startswith(f"{name}.") for name in FREE_TO_CHANGE)
        was, now = before.get(key), after.get(key)
        if key in FRACTIONS and was is not None and now is not None:
            changed = round(was * images[0]) != round(now * images[1])
        else:
            changed = was != now
        if changed and not free:
            yield key, was, now


def _validated(values: dict[str, Any], places: dict[str, str]) -> Config:
    """`places` says where each dotted key stands."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise UserError(_one_line(error, places)) from None


def _read(path: Path) -> tuple[str, str]:
    shipped = [folder / f"{path}.yaml" for folder in SHIPPED_CONFIGS] if path.suffix == "" else []
    problem = path_problem(str(path))
    if problem is not None:
        raise UserError(f"the path of the config {problem}; give a YAML file or the name of a shipped one")
    for candidate in (path, *shipped):
        if candidate.exists() and not candidate.is_dir():
            try:
                return read_regular(candidate, CONFIG_LIMIT).decode("utf-8"), str(candidate)
            except (OSError, UnicodeDecodeError) as error:
                raise UserError(f"cannot read the config {candidate}: {error}") from error
    names = sorted({file.stem for folder in SHIPPED_CONFIGS for file in folder.glob("*.yaml")})
    raise UserError(f"there is no config {path}; give a YAML file or one of the shipped names: {', '.join(names)}")


def _set(values: dict[str, Any], path: list[str], value: Any, override: str) -> None:
    for depth, key in enumerate(path[:-1], 1):
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise UserError(f"{override!r}: {'.'.join(path[:depth])} has no keys below it; set it as a whole")
    values[path[-1]] = value


def _one_line(error: ValidationError, places: dict[str, str]) -> str:
    first = error.errors(include_url=False)[0]
    if first["type"] == "value_error":  # a check of ours: it names its keys itself
        where = places.get(".".join(map(str, first["loc"]))) if isinstance(first["input"], str) else None
        return f"{first['ctx']['error']}" + (f" ({where})" if where else "")
    known = {key.name for key in keys.config_keys()} | keys.sections().keys()
    if not first["loc"]:
        return "the config should be a mapping of keys"
    key = ".".join(str(part) for part in first["loc"])
    outer = key.rpartition(".")[0]
    if key not in known and outer in known and isinstance(first["loc"][-1], str) and first["type"] not in _WRONG_NAME:
        key = outer  # pydantic adds the name of a union's member
    place = f" ({places[key]})" if key in places else ""
    if first["type"] == "extra_forbidden":
        return f"unknown config key {key}{keys.hint(key)}{place}"
    if first["type"] == "missing":
        return f"{key} is required and not set{place}"
    if first["type"] == "model_type":
        return f"{key} = {json.dumps(first['input'], default=str)}: it should be a mapping of keys{place}"
    said = first["msg"].replace("Input should be", "it should be")
    if first["type"] in ("tuple_type", "list_type") and not isinstance(first["input"], dict):
        said = f"it should be a list; write {key}=[{first['input']}]"
    if key in FRACTIONS:
        said += ", a fraction of the run"
    return f"{key} = {json.dumps(first['input'], default=str)}: {said}{place}"


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
