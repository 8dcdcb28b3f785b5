"""The code sheet of a run: its newest grids, the classes of categorical_0, and the prior and information of each code."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import torch

from infogan_dist.errors import InfoganError
from infogan_dist.evaluation.code_names import names_of
from infogan_dist.export.report.metrics import metrics_of
from infogan_dist.export.report.pictures import Pictures
from infogan_dist.export.report.runs import Run
from infogan_dist.export.report.scores import Scores
from infogan_dist.latents import LatentSpec
from infogan_dist.registry.data_sets import DATA_SETS


@dataclass(frozen=True)
class ClassRow:
    """A class of categorical_0: its number, its name ("" if unknown), and the fraction of test images that Q assigns to it."""

    number: int
    name: str
    share: float | None


@dataclass(frozen=True)
class Code:
    name: str
    prior: str
    information: str
    """L_I in nats, with its ceiling; empty if it is not scored."""
    nats: float | None


@dataclass(frozen=True)
class CodeSheet:
    pictures: Pictures
    rows: tuple[ClassRow, ...]
    """The classes of categorical_0; empty if no name or share is known."""
    codes: tuple[Code, ...]
    noise: str


def code_sheet(run: Run, scores: Scores, pictures: Pictures) -> CodeSheet:
    if run.config is None:
        return CodeSheet(pictures, (), (), "")
    spec = LatentSpec.from_config(run.config.latents)
    noise = " + ".join(f"{source.dim} {source.distribution}" for source in spec.noise)
    return CodeSheet(pictures, _rows(run, scores, pictures, spec), _codes(scores, spec), noise)


def _rows(run: Run, scores: Scores, pictures: Pictures, spec: LatentSpec) -> tuple[ClassRow, ...]:
    if not spec.categorical:
        return ()
    step = pictures.newest.step if pictures.newest is not None else None
    current = step is not None and scores.facts.get("step") == step
    code = spec.categorical_names[0]
    usage = scores.facts.get("usage") if current else None
    shares = usage.get(code) if isinstance(usage, dict) else None
    names = (_matched(scores.facts, code) if current else {}) or _named(run, step, code, spec.categorical[0])
    known = shares if isinstance(shares, list) and len(shares) == spec.categorical[0] else None
    if not names and known is None:
        return ()
    return tuple(
        ClassRow(number, names.get(number, ""), known[number] if known is not None else None)
        for number in range(spec.categorical[0])
    )


def _matched(facts: Mapping[str, object], code: str) -> dict[int, str]:
    """The name of each class by evaluate's matching."""
    matching = facts.get("matching")
    if not isinstance(matching, dict) or matching.get("code") != code or not isinstance(matching.get("labels"), dict):
        return {}
    return {
        int(k): _class_name(str(facts.get("data")), str(v)) for k, v in matching["labels"].items() if str(k).isdecimal()
    }


def _named(run: Run, step: int | None, code: str, width: int) -> dict[int, str]:
    """The name of each class by `evaluate --name-codes`, if it named the classes of this step."""
    names = None
    with suppress(InfoganError):
        names = names_of(run.path)
    if names is None or names.step != step or names.code != code:
        return {}
    return {k: _class_name(names.data, each) for k, each in enumerate(names.of(torch.arange(width))) if each != "?"}


def _class_name(data: str, label: str) -> str:
    classes = DATA_SETS[data].classes if data in DATA_SETS else ()
    return classes[int(label)] if label.isdecimal() and int(label) < len(classes) else label


def _codes(scores: Scores, spec: LatentSpec) -> tuple[Code, ...]:
    priors = {name: f"{width} classes" for name, width in zip(spec.categorical_names, spec.categorical, strict=True)}
    priors |= dict.fromkeys(spec.continuous_names, f"{spec.levels} values, -1 to 1" if spec.levels else "U(-1, 1)")
    metrics = {metric.key: metric for metric in metrics_of([scores])}
    codes = []
    for name, prior in priors.items():
        key = f"mutual_information/{name}"
        nats = scores.metrics.get(key)
        text = f"{metrics[key].text(nats)} {metrics[key].bound(scores)}".strip() if nats is not None else ""
        codes.append(Code(name, prior, text, nats))
    return tuple(codes)
