"""The use of each class of each categorical code on real images. Needs no labels."""

from __future__ import annotations

from torch import Tensor

from infogan_dist.distributed.group import Group
from infogan_dist.evaluation.evaluated_model import EvaluatedModel
from infogan_dist.evaluation.metric_values import Metrics
from infogan_dist.evaluation.metrics.modes import class_shares
from infogan_dist.evaluation.reals import Reals


def entropy_of_mean(logits: Tensor) -> float:
    """H(E[Q(c | x)]) in nats, of logits [N, K]: ln K where every class is used equally, less where some are used less."""
    mean = logits.softmax(1).mean(0)
    return float(-mean.xlogy(mean).sum())


def usage(model: EvaluatedModel, reals: Reals, group: Group) -> Metrics:
    """`usage`, the share of each class as Q's most likely, and `usage_entropy`, nats, by categorical code on test images.

    On balanced data an entropy well below ln K shows, without labels, that a class is rarely used.
    """
    names = model.spec.categorical_names
    if not names:
        return {}
    by_code = dict(zip(names, model.posteriors(reals.test, group).logits, strict=True))
    return {
        "usage": {name: class_shares(logits.argmax(1), logits.shape[1]).tolist() for name, logits in by_code.items()},
        "usage_entropy": {name: entropy_of_mean(logits) for name, logits in by_code.items()},
    }
