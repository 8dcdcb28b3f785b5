"""Calibration of Q, and the entropy of its predictions."""

from __future__ import annotations

import torch
from torch import Tensor

from infogan_dist.distributed.group import Group
from infogan_dist.evaluation.evaluated_model import EvaluatedModel
from infogan_dist.evaluation.metric_values import Metrics
from infogan_dist.evaluation.metrics.code_error import match
from infogan_dist.evaluation.reals import Reals

BINS = 15  # Guo et al. 2017, section 5


def expected_calibration_error(confidence: Tensor, correct: Tensor, bins: int = BINS) -> float:
    """Σ_b n_b / N |accuracy_b - confidence_b| over bins of equal width in confidence (Guo et al. 2017, Eq. 3).

    `confidence` is float [N] in 0..1, `correct` bool [N]. 0 is perfect, 1 is the worst.
    """
    bin_of = (confidence * bins).ceil().long().sub(1).clamp(0, bins - 1)
    gaps = torch.zeros(bins, dtype=torch.float64).index_add_(0, bin_of, correct.double() - confidence.double())
    return float(gaps.abs().sum() / len(confidence))


def mean_entropy(logits: Tensor) -> float:
    """E[H(Q(c | x))] in nats, of logits [N, K]: 0 where Q is certain, ln K where it is uniform."""
    return float(-(logits.log_softmax(1) * logits.softmax(1)).sum(1).mean())


def calibration(model: EvaluatedModel, reals: Reals, group: Group) -> Metrics:
    """`calibration_error`, the ECE of the matched code on test images, a fraction, where an unmatched class counts as wrong;
    `entropy_on_reals` and `entropy_on_fakes`, nats by categorical code."""
    names = model.spec.categorical_names
    if not names:
        return {}
    on_reals, on_fakes = model.posteriors(reals.test, group).logits, model.fakes(group)[0].logits
    metrics: Metrics = {
        "entropy_on_reals": dict(zip(names, map(mean_entropy, on_reals), strict=True)),
        "entropy_on_fakes": dict(zip(names, map(mean_entropy, on_fakes), strict=True)),
    }
    matched = match(model, reals, group)
    if matched is not None and reals.test_labels is not None:
        confidence = on_reals[names.index(matched.name)].softmax(1).amax(1)
        correct = matched.matching[matched.test_predicted] == reals.test_labels
        metrics["calibration_error"] = expected_calibration_error(confidence, correct)
    return metrics
