"""The adversarial losses, one record each. To add one, add an `AdversarialLoss` to losses.py and a record."""

from __future__ import annotations

from dataclasses import dataclass

from infogan_dist.registry.lookup import Registry


@dataclass(frozen=True, kw_only=True)
class LossRecord:
    name: str
    implementation: str
    """`module:attribute`, an infogan_dist.losses.AdversarialLoss."""


ADVERSARIAL_LOSSES = Registry(
    "adversarial loss",
    "objective.adversarial",
    "infogan_dist.losses",
    [
        LossRecord(name="standard", implementation="infogan_dist.losses:STANDARD"),
        LossRecord(name="relativistic", implementation="infogan_dist.losses:RELATIVISTIC"),
        LossRecord(name="none", implementation="infogan_dist.losses:NONE"),
    ],
)
