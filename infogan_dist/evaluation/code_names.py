"""Names for the classes of a code: the labels that `evaluate --name-codes` matched to them, saved in the run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from infogan_dist.errors import UserError
from infogan_dist.evaluation.evaluated_model import Origin
from infogan_dist.evaluation.metric_values import Metrics
from infogan_dist.files import NAME_LIMIT, atomic_write
from infogan_dist.latents import CodeValue
from infogan_dist.registry.data_sets import DATA_SETS
from infogan_dist.sampling.pretrained import CODE_NAMES, Provenance, provenance

REMEDY = "run `infogan-dist evaluate RUN --name-codes` first"


ClassNumber = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,5})$")]


class CodeNames(BaseModel):
    """The label that each class of a code draws, matched on labelled train images."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    code: str
    labels: dict[ClassNumber, Annotated[int, Field(ge=0, lt=10**6)]]
    """The label by class number."""
    names: dict[ClassNumber, Annotated[str, Field(max_length=NAME_LIMIT)]] = {}
    """The data set's name of the label by class number; empty in files of earlier versions."""
    code_error: Annotated[float, Field(ge=0, le=1)]
    data: str
    step: Annotated[int, Field(ge=0)]
    """Step of the checkpoint that was matched."""

    @model_validator(mode="after")
    def _check(self) -> CodeNames:
        if len(set(self.labels.values())) < len(self.labels):
            raise ValueError("two classes have one label")
        return self

    def of(self, classes: Tensor) -> list[str]:
        """The name, or else the label, of each of `classes`, int64 [B]; "?" where there is none."""
        known = {**self.labels, **self.names}
        return [str(known.get(str(number), "?")) for number in classes.tolist()]

    def descriptions(self) -> dict[int, str]:
        """A description by matched class: `digit 7` for handwritten digits, else the data set's name of the label."""
        return {int(number): self._description(number, label) for number, label in self.labels.items()}

    def _description(self, number: str, label: int) -> str:
        with suppress(UserError, IndexError):  # the data set of a plugin that is not installed here
            record = DATA_SETS[self.data]
            if record.handwritten_digits:
                return f"digit {label}"
            return self.names[number] if number in self.names else record.classes[label]
        return self.names.get(number, f"label {label}")

    def class_of(self, name: str) -> int:
        """The class matched to a name or a label, in any case. Raises UserError where there is none."""
        numbers = {str(label): number for number, label in self.labels.items()}
        numbers |= {known.casefold(): number for number, known in self.names.items()}
        numbers |= {known: number for number, known in self.names.items()}
        number = numbers.get(name, numbers.get(name.casefold()))
        if number is None:
            there = sorted(self.names.values()) or sorted(map(str, self.labels.values()))
            raise UserError(f"no class of {self.code} is matched to {name}; there are {', '.join(there)}")
        return int(number)


def name_codes(metrics: Metrics, origin: Origin | None) -> CodeNames:
    """Write the matching in a run's metrics to its folder, atomically. Raises UserError without a matching or a run folder."""
    if "matching" not in metrics:
        raise UserError(
            f"--name-codes needs a categorical code and labelled data; there is no matching on {metrics['data']}"
        )
    if origin is None or origin.run is None:
        raise UserError(f"--name-codes needs a run folder; {metrics['checkpoint']} is not in one")
    matching = metrics["matching"]
    names = CodeNames(
        code=matching["code"],
        labels=matching["labels"],
        names=matching["names"],
        code_error=metrics["code_error"],
        data=metrics["data"],
        step=origin.step,
    )
    path = origin.run / CODE_NAMES
    try:
        with atomic_write(path) as partial:
            partial.write_text(names.model_dump_json(indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error}") from error
    return names


def names_of(path: str | Path) -> CodeNames | None:
    """The code names of one checkpoint, of a run folder's newest or of an exported model; None without names, or where they belong
    to another step: training may change what a class draws.

    Raises UserError where `name_codes` did not write the file.
    """
    return names_in(provenance(path), path)


def names_in(known: Provenance, path: str | Path) -> CodeNames | None:
    """The code names of a loaded model, as `names_of`; messages name `path`."""
    if known.code_names is None:
        return None
    try:
        names = CodeNames.model_validate(json.loads(known.code_names))
    except (ValueError, RecursionError) as error:
        said = error.errors(include_url=False)[0]["msg"] if isinstance(error, ValidationError) else error
        raise UserError(f"{path}: {CODE_NAMES} is not what evaluate wrote ({said}); remove it and {REMEDY}") from None
    return names if names.step == known.step else None


def held_by(
    names: CodeNames | None, label: str, held: Mapping[str, CodeValue], path: str | Path
) -> dict[str, CodeValue]:
    """`held`, and the class that draws `label`. Raises UserError where `held` sets the same code to another value."""
    if names is None:
        raise UserError(
            f"the codes of {path} have no names at this step, so --class {label} cannot be resolved; {REMEDY}"
        )
    number = names.class_of(label)
    given = held.get(names.code, number)
    if given != number:
        said = f"{given:g}" if isinstance(given, (int, float)) else "a list"
        raise UserError(f"--class {label} is {names.code}={number}, but --set says {said}; give one of them")
    return {**held, names.code: number}
