"""Agreement of the code's classes with the labels, without a one-to-one matching: purity, NMI and ARI.

They are more lenient than the code error: a class that holds two labels lowers purity little. NMI and ARI are scikit-learn's.
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
    """The share of images with the most frequent label of their class, in 0..1 (Manning et al. 2008, section 16.3)."""
    return int(contingency(predicted, labels).amax(1).sum()) / len(labels)


def agreement(predicted: Tensor, labels: Tensor) -> Metrics:
    """`purity`; with scikit-learn also `nmi` (arithmetic mean, 0..1) and `ari` (0 by chance, Hubert and Arabie 1985)."""
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
