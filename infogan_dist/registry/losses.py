"""The adversarial losses, one record each. To add one, add an `AdversarialLoss` to losses.py and a record."""

from __future__ import annotations

from dataclasses import dataclass

from infogan_dist.registry.lookup import Registry


@dataclass(frozen=True, kw_only=True)
class LossRecord:
    name: str
    implementation: str
    """`module:attribute`, an infogan_dist.losses.AdversarialLoss."""
    has_real_target: bool = False
    """Whether `discriminator` takes a third argument, the target of D for reals, which objective.label_smoothing lowers from 1."""
    needs_bounded_gradient: bool = False
    """Whether D's loss has no minimum unless a penalty or spectral norm bounds D's gradient. Such a D does not saturate."""
    has_decision: bool = True
    """Whether a logit above 0 means that D takes the image for a real. False if only differences between logits matter."""


ADVERSARIAL_LOSSES = Registry(
    "adversarial loss",
    "objective.adversarial",
    "infogan_dist.losses",
    [
        LossRecord(name="standard", implementation="infogan_dist.losses:STANDARD", has_real_target=True),
        LossRecord(name="relativistic", implementation="infogan_dist.losses:RELATIVISTIC", has_decision=False),
        LossRecord(name="hinge", implementation="infogan_dist.losses:HINGE"),
        LossRecord(name="least-squares", implementation="infogan_dist.losses:LEAST_SQUARES", has_real_target=True),
        LossRecord(
            name="wasserstein",
            implementation="infogan_dist.losses:WASSERSTEIN",
            needs_bounded_gradient=True,
            has_decision=False,
        ),
        LossRecord(name="none", implementation="infogan_dist.losses:NONE", has_decision=False),
    ],
)
