"""The parts of config sections: a strict base class, bounded number types, and checks of paths and names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import pydantic
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from infogan_dist.files import NAME_LIMIT, path_problem
from infogan_dist.registry.lookup import Registry

# Pydantic's types with upper bounds that torch, the system and memory can handle. They are far above any real run.
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
OUTPUT_NAME_LIMIT = 240  # bytes; `-debug` and `.tmp-` are added to the name
Precision = Literal["auto", "fp32", "bf16", "fp16", "fp64"]


def check_path(key: str, path: str | None, name_limit: int = NAME_LIMIT) -> None:
    problem = None if path is None else path_problem(path, name_limit)
    if problem is not None:
        raise ValueError(f"{key} {problem}; choose another path")


def known_name(registry: Registry[Any]) -> AfterValidator:
    """Checks that the registry or an installed plugin has a record of this name."""
    return AfterValidator(lambda name: registry[name].name)


def open_names(built_in: Iterable[str]) -> WithJsonSchema:
    """A JSON schema for any string, in which editors complete the built-in names."""
    return WithJsonSchema({"anyOf": [{"enum": list(built_in), "type": "string"}, {"type": "string"}]})


class Section(BaseModel):
    """Strict and immutable: no unknown keys, no silent type conversion, no infinity or NaN."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
