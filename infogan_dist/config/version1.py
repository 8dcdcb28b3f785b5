"""Reads configs of schema version 1: its key names, and its schedules in images instead of fractions of the run."""

from __future__ import annotations

import copy
import logging
from typing import Any

RENAMED = {
    "views": "augmentation",
    "bad_steps": "nonfinite",
    "bad_steps.in_a_row": "nonfinite.max_in_a_row",
    "bad_steps.rollbacks": "nonfinite.max_rollbacks",
    "bad_steps.look_every": "nonfinite.check_every",
    "objective.clustering_evenness": "objective.clustering_entropy_weight",
    "objective.neighbour_partners": "objective.neighbour_positives",
    "processes.own_cores": "processes.pin_cores",
}
IN_IMAGES = (
    "schedule.anneal_from",
    "schedule.anneal_until",
    "objective.clustering_from",
    "objective.clustering_in_full",
)

# Defaults of version 1 that are others now
_STEPS, _GLOBAL_BATCH = 2400, 100
_CLUSTERING_FROM, _CLUSTERING_IN_FULL = 60_000, 120_000

_log = logging.getLogger("infogan_dist")
_logged: set[str] = set()


def is_version_1(values: dict[str, Any]) -> bool:
    """Whether the values of a config say so, or, where they name no version, use a key or unit of version 1 only."""
    version = values.get("schema_version")
    if version is not None:
        return version == 1 and version is not True
    return any(_get(values, key) is not None for key in RENAMED) or any(
        _is_number(_get(values, key)) and _get(values, key) > 1 for key in IN_IMAGES
    )


def translate(values: dict[str, Any], where: str) -> dict[str, Any]:
    """The same config in the current schema. Logs one line that names the translated keys."""
    values = copy.deepcopy(values)
    keys = [key for key in RENAMED if not key.startswith("bad_steps.")] + [*IN_IMAGES]
    used = [key for key in keys if _get(values, key) is not None]
    values["schema_version"] = 2
    data = _section(values, "data")
    if data.get("name", "mnist-mini") in ("mnist-mini", "sprites"):
        data.pop("root", None)  # was ignored
    _rename_views(values)
    _rename(_section(values, "bad_steps"), "bad_steps")
    if "bad_steps" in values:
        values["nonfinite"] = values.pop("bad_steps")
    _rename(_section(values, "objective"), "objective")
    _rename(_section(values, "processes"), "processes")
    _to_fractions(values)
    if used:
        named = ", ".join(f"{key} (now {RENAMED.get(key, 'a fraction of the run')})" for key in used)
        _log_once(named, where)
    return values


def _rename_views(values: dict[str, Any]) -> None:
    """In version 1, cuts and pastes were off by default, and other defaults were those of the preset `digits`."""
    if isinstance(values.get("views"), dict) or "views" not in values:
        views = values.pop("views", {})
        values["augmentation"] = {"preset": "digits", "cut": 0.0, "paste": 0.0, **views}
    if _get(values, "objective.information_from") == "views":
        values["objective"]["information_from"] = "augmented"


def _to_fractions(values: dict[str, Any]) -> None:
    """Record the images of the run, and divide by them. Rounding the product back to images gives the same integer."""
    schedule, objective = (values.setdefault(key, {}) for key in ("schedule", "objective"))
    train = _section(values, "train")
    if not isinstance(schedule, dict) or not isinstance(objective, dict):
        return
    start, end = schedule.get("anneal_from", 0), schedule.get("anneal_until", 0)
    onset = objective.get("clustering_from", _CLUSTERING_FROM)
    full = objective.get("clustering_in_full", _CLUSTERING_IN_FULL)
    steps, batch = train.get("steps", _STEPS), train.get("global_batch", _GLOBAL_BATCH)
    if not all(_is_number(number) and 0 <= number < 10**15 for number in (start, end, onset, full, steps, batch)):
        return  # validation names the wrong one
    clusters = objective.get("lambda_clustering", 0) != 0
    images = max(steps * batch, end, *((onset, full) if clusters else ()), 1)
    if end:
        schedule |= {"kind": "linear", "anneal_from": start / images, "anneal_until": end / images}
    else:
        for key in ("anneal_from", "anneal_until", "final"):
            schedule.pop(key, None)
    schedule["images"] = images
    for key, value in (("clustering_from", onset), ("clustering_in_full", full)):
        objective[key] = value / images if clusters else 0.0


def _rename(section: dict[str, Any], name: str) -> None:
    for old, new in RENAMED.items():
        parent, _, key = old.rpartition(".")
        if parent == name and key in section:
            section[new.rpartition(".")[2]] = section.pop(key)


def _section(values: dict[str, Any], name: str) -> dict[str, Any]:
    section = values.get(name)
    return section if isinstance(section, dict) else {}


def _get(values: dict[str, Any], key: str) -> Any:
    for part in key.split("."):
        values = values.get(part) if isinstance(values, dict) else None  # type: ignore[assignment]
    return values


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _log_once(named: str, where: str) -> None:
    """A run folder holds its config several times: one line for all copies."""
    if named not in _logged:
        _logged.add(named)
        _log.warning("%s is of schema version 1; these keys were translated: %s", where, named)
