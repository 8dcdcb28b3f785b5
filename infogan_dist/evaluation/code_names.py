"""Names for the classes of a code: the labels that `evaluate --name-codes` matched to them, kept in the run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from infogan_dist.errors import UserError
from infogan_dist.evaluation.evaluated_model import Origin
from infogan_dist.evaluation.metric_values import Metrics
from infogan_dist.files import atomic_write
from infogan_dist.sampling.pretrained import CODE_NAMES, Provenance, provenance

REMEDY = "run `infogan-dist evaluate RUN --name-codes` first"


class CodeNames(BaseModel):
    """Which label each class of a code draws, as matched on labelled train images."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    code: str
    labels: dict[Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,5})$")], Annotated[int, Field(ge=0, lt=10**6)]]
    """The label by class number."""
    code_error: Annotated[float, Field(ge=0, le=1)]
    data: str
    step: Annotated[int, Field(ge=0)]
    """Of the checkpoint that was matched."""

    @model_validator(mode="after")
    def _check(self) -> CodeNames:
        if len(set(self.labels.values())) < len(self.labels):
            raise ValueError("two classes have one label")
        return self

    def of(self, classes: Tensor) -> list[str]:
        """The label of each class, int64 [B]; "?" for one without."""
        return [str(self.labels.get(str(number), "?")) for number in classes.tolist()]

    def class_of(self, label: int) -> int:
        """The class matched to a label. Raises UserError where none is."""
        for number, named in self.labels.items():
            if named == label:
                return int(number)
        raise UserError(f"no class of {self.code} is matched to {label}; there are {sorted(self.labels.values())}")


def name_codes(metrics: Metrics, origin: Origin | None) -> CodeNames:
    """Keep the matching among a run's metrics in its folder, whole or not at all. Raises UserError where there is none."""
    if "matching" not in metrics:
        raise UserError(
            f"--name-codes needs a categorical code and data with labels; {metrics['data']} gave no matching"
        )
    if origin is None or origin.run is None:
        raise UserError(f"--name-codes needs a run folder; {metrics['checkpoint']} lies in none")
    matching = metrics["matching"]
    names = CodeNames(
        code=matching["code"],
        labels=matching["labels"],
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
    """The names of the codes of a run folder's newest checkpoint, of one checkpoint or of an exported model; None where there are
    none, or those of another step: what a class draws may change while it trains.

    Raises UserError where they are not what `name_codes` writes.
    """
    return names_in(provenance(path), path)


def names_in(known: Provenance, path: str | Path) -> CodeNames | None:
    """The same of a model that is loaded; `path` is what messages call it."""
    if known.code_names is None:
        return None
    try:
        names = CodeNames.model_validate(json.loads(known.code_names))
    except (ValueError, RecursionError) as error:
        said = error.errors(include_url=False)[0]["msg"] if isinstance(error, ValidationError) else error
        raise UserError(f"{path}: {CODE_NAMES} is not what evaluate wrote ({said}); remove it and {REMEDY}") from None
    return names if names.step == known.step else None


def held_by(names: CodeNames | None, label: int, held: Mapping[str, float], path: Path) -> dict[str, float]:
    """The codes to hold so that G draws `label`, beside those `held` already. Raises UserError where they contradict."""
    if names is None:
        raise UserError(f"the codes of {path} have no names at this step, so --digit {label} means nothing; {REMEDY}")
    number = names.class_of(label)
    if held.get(names.code, number) != number:
        raise UserError(
            f"--digit {label} is {names.code}={number}, but --set says {held[names.code]:g}; give one of them"
        )
    return {**held, names.code: number}
