"""How far the classes of the code and the labels tell of each other, without a matching.

These flatter beside the code error: a class that holds two labels costs purity little. NMI and ARI are scikit-learn's.
"""

from __future__ import annotations

from torch import Tensor

from infogan_dist.distributed.group import Group
from infogan_dist.evaluation.contingency import contingency
from infogan_dist.evaluation.evaluated_model import EvaluatedModel
from infogan_dist.evaluation.metric_values import Metrics
from infogan_dist.evaluation.metrics.code_error import match
from infogan_dist.evaluation.reals import Reals


def purity(predicted: Tensor, labels: Tensor) -> float:
    """The share of images that have the commonest label of their class (Manning et al. 2008, section 16.3), in 0..1."""
    return int(contingency(predicted, labels).amax(1).sum()) / len(labels)


def agreement(predicted: Tensor, labels: Tensor) -> Metrics:
    """`purity`; and `nmi` (arithmetic mean, 0..1) and `ari` (Hubert and Arabie 1985, 0 by chance) where scikit-learn is."""
    metrics: Metrics = {"purity": purity(predicted, labels)}
    try:
        from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    except ImportError:  # the extra `evaluate` is not installed
        return metrics
    nmi, ari = (
        float(score(labels.numpy(), predicted.numpy())) for score in (normalized_mutual_info_score, adjusted_rand_score)
    )
    return metrics | {"nmi": nmi, "ari": ari}


def clustering(model: EvaluatedModel, reals: Reals, group: Group) -> Metrics:
    """`purity`, `nmi` and `ari` of the matched code on test images."""
    matched = match(model, reals, group)
    return agreement(matched.test_predicted, reals.test_labels) if matched and reals.test_labels is not None else {}
