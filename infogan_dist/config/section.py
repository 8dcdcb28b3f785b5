"""What the sections of a config are made of: strict sections, bounded numbers, and checks of paths and names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import pydantic
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from infogan_dist.files import NAME_LIMIT, path_problem
from infogan_dist.registry.lookup import Registry

# Pydantic's types with upper bounds, which keep a number within what torch, the system and memory take. No real run comes near.
PositiveInt = Annotated[pydantic.PositiveInt, Field(le=10**9)]
NonNegativeInt = Annotated[pydantic.NonNegativeInt, Field(le=10**9)]
NonNegativeFloat = Annotated[pydantic.NonNegativeFloat, Field(le=10**9)]
LearningRate = Annotated[pydantic.PositiveFloat, Field(lt=10)]
Probability = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Norm = Literal["batch", "batch_local", "none"]
NormD = Literal["batch", "batch_local", "spectral", "none"]
NormQ = Literal["family", "batch", "batch_local", "none"]
LATENT_LIMIT = 2**14  # dimensions of z and c together
OUTPUT_NAME_LIMIT = 240  # bytes: `-debug` and `.tmp-` are added to it
Precision = Literal["auto", "fp32", "bf16", "fp16", "fp64"]


def check_path(key: str, path: str | None, name_limit: int = NAME_LIMIT) -> None:
    problem = None if path is None else path_problem(path, name_limit)
    if problem is not None:
        raise ValueError(f"{key} {problem}; choose another path")


def known_name(registry: Registry[Any]) -> AfterValidator:
    """That the registry, or an installed plugin, has a record of this name."""
    return AfterValidator(lambda name: registry[name].name)


def open_names(built_in: Iterable[str]) -> WithJsonSchema:
    """Any string; editors complete the built-in names."""
    return WithJsonSchema({"anyOf": [{"enum": list(built_in), "type": "string"}, {"type": "string"}]})


class Section(BaseModel):
    """Strict and immutable: no unknown key, no silent conversion of one type to another, no infinity and no NaN."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
