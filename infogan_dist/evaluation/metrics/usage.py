"""How evenly Q spreads real images over the classes of each categorical code. Needs no labels."""

from __future__ import annotations

from torch import Tensor

from infogan_dist.distributed.group import Group
from infogan_dist.evaluation.evaluated_model import EvaluatedModel
from infogan_dist.evaluation.metric_values import Metrics
from infogan_dist.evaluation.reals import Reals


def shares(logits: Tensor) -> list[float]:
    """The share of images whose most likely class is each of the K; of logits [N, K]."""
    return [count / len(logits) for count in logits.argmax(1).bincount(minlength=logits.shape[1]).tolist()]


def entropy_of_mean(logits: Tensor) -> float:
    """H(E[Q(c | x)]) in nats of logits [N, K]: ln K where every class is used alike, less where one lags or is lost."""
    mean = logits.softmax(1).mean(0)
    return float(-mean.xlogy(mean).sum())


def usage(model: EvaluatedModel, reals: Reals, group: Group) -> Metrics:
    """`usage` (a share by class) and `usage_entropy` (nats) by categorical code on test images.

    On balanced data an entropy well under ln K is the alarm for a class that lags, without any label.
    """
    names = model.spec.categorical_names
    if not names:
        return {}
    by_code = dict(zip(names, model.posteriors(reals.test, group).logits, strict=True))
    return {
        "usage": {name: shares(logits) for name, logits in by_code.items()},
        "usage_entropy": {name: entropy_of_mean(logits) for name, logits in by_code.items()},
    }
