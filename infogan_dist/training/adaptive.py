"""Adaptive discriminator augmentation (Karras et al. 2020): the probability of the changes of `objective.diff_augment` follows D's
confidence in reals.

The paper averages four steps before each adjustment, and has more kinds of changes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from infogan_dist.config.schema import Config
from infogan_dist.distributed.cluster import Cluster

DECIMALS = 9  # of the distance to the target: a tie does not depend on rounding, and so not on the number of processes


@torch.no_grad()
def adjust(probability: Tensor, metrics: dict[str, Tensor], config: Config, cluster: Cluster) -> dict[str, Tensor]:
    """Move `probability` [] after a step, in place, by its mean sign of D's logits of reals over all processes. Returns it as a metric.
    Every rank calls it."""
    sign = cluster.mean_of_all(metrics["score/real_sign"], "adaptive augmentation")
    step = config.train.global_batch / config.objective.diff_augment_images
    probability.copy_(adjusted(probability, sign, config.objective.diff_augment_target, step))
    return {"augmentation/probability": probability.clone()}


def adjusted(probability: Tensor, sign: Tensor, target: float, step: float) -> Tensor:
    """`probability` [] moved by `step` up if r_t = E[sign(D(x))] (their Eq. 1) is above `target`, down if below, within [0, 1]. It does not
    move if `sign` is not finite, because then D's update was skipped."""
    direction = (sign.double() - target).round(decimals=DECIMALS).sign().nan_to_num()
    return (probability + step * direction.to(probability.dtype)).clamp(0, 1)
