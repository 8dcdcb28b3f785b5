"""The brightness of G's images."""

from infogan_dist.distributed.group import Group
from infogan_dist.evaluation.evaluated_model import EvaluatedModel
from infogan_dist.evaluation.metric_values import Metrics
from infogan_dist.evaluation.reals import Reals


def brightness(model: EvaluatedModel, reals: Reals, group: Group) -> Metrics:
    """`toy_brightness`: the mean pixel of 64 images of G, in [-1, 1]."""
    return {"toy_brightness": float(model.sample(64, group).double().mean())}
