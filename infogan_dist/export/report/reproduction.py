"""How to reproduce runs: commands, configs, data sets and versions."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infogan_dist.config.schema import Config
from infogan_dist.export.report.comparison import differences, shareable
from infogan_dist.export.report.runs import Run
from infogan_dist.registry.data_sets import DATA_SETS

MOST_OVERRIDES = 6  # of a command; a run that needs more gets a config file


@dataclass(frozen=True)
class ConfigFile:
    """A config, the name to save it under, and the run that it was read from."""

    name: str
    run: Run
    config: Config

    @property
    def text(self) -> str:
        return shareable(self.config, self.run.name)


def configs_and_commands(runs: Sequence[Run]) -> tuple[list[ConfigFile], list[str]]:
    """Config files and the commands that train every run with a config and evaluate all of them."""
    files: list[ConfigFile] = []
    commands = []
    configured = [run for run in runs if run.config is not None]
    for run in configured:
        near = next((file for file in files if len(differences([file.run, run])) <= MOST_OVERRIDES), None)
        if near is None:
            near = _config_file(run, len(files) + 1)
            files.append(near)
        overrides = [f"{each.key}={each.values[1]}" for each in differences([near.run, run])]
        commands.append(shlex.join(["infogan-dist", "train", near.name, f"output=runs/{run.name}", *overrides]))
    if configured:
        outputs = [f"runs/{run.name}" for run in configured]
        commands.append(shlex.join(["infogan-dist", "evaluate", *outputs, "--json", "evaluation.json"]))
    return files, commands


def data_sets(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Each data set with its number of images, checksum, licence and source."""
    found: dict[str, str] = {}
    for run in runs:
        if run.config is None:
            continue
        name = run.config.data.name
        images = run.checkpoint.images if run.checkpoint is not None else None
        facts = [f"{images.images:,} train images, sample checksum {images.checksum}"] if images is not None else []
        if name in DATA_SETS:
            record = DATA_SETS[name]
            facts += [f"licence {record.licence}"] if record.licence else []
            facts += [record.citation] if record.citation else []
        found.setdefault(name, "; ".join(facts))
    return list(found.items())


def versions(runs: Sequence[Run]) -> list[tuple[str, Mapping[str, str]]]:
    """The versions of the libraries that trained the runs, with the names of the runs if they differ."""
    found: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for run in runs:
        recorded = run.checkpoint.manifest.get("versions", {}) if run.checkpoint is not None else {}
        if isinstance(recorded, dict) and recorded:
            found.setdefault(tuple((str(key), str(value)) for key, value in recorded.items()), []).append(run.name)
    return [(", ".join(names) if len(found) > 1 else "", dict(each)) for each, names in found.items()]


def _config_file(run: Run, number: int) -> ConfigFile:
    assert run.config is not None
    name = "report.yaml" if number == 1 else f"report-{number}.yaml"
    return ConfigFile(name, run, run.config)
