"""Code error: the share of real images whose predicted class is not the one matched to their label.

The matching is one to one and maximises the agreement (Kuhn 1955, by scipy). It is fitted on labelled train images and applied
to test images. Unlike purity, it counts the errors of two classes that share a label and of two labels that share a class.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from infogan_dist.distributed.group import Group
from infogan_dist.evaluation.contingency import contingency
from infogan_dist.evaluation.evaluated_model import EvaluatedModel
from infogan_dist.evaluation.intervals import binomial_interval
from infogan_dist.evaluation.metric_values import Metrics
from infogan_dist.evaluation.reals import Reals
from infogan_dist.latents import LatentSpec

UNMATCHED = -1


def fit_matching(predicted: Tensor, labels: Tensor, widths: tuple[int, int]) -> Tensor:
    """The label of each class, int64 [widths[0]]: the one-to-one matching on which most images agree.

    `widths` are the numbers of classes and labels. UNMATCHED where classes outnumber labels, or where no image agrees.
    """
    counts = contingency(predicted, labels, widths)
    classes, matched = linear_sum_assignment(counts.numpy(), maximize=True)
    matching = torch.full((widths[0],), UNMATCHED)
    matching[classes] = torch.from_numpy(matched)
    matching[classes[counts.numpy()[classes, matched] == 0]] = UNMATCHED
    return matching


def error(predicted: Tensor, labels: Tensor, matching: Tensor) -> float:
    """The share of images whose class is not matched to their label. An unmatched class is always wrong."""
    return 1 - int((matching[predicted] == labels).sum()) / len(labels)


@dataclass(frozen=True)
class MatchedCode:
    """The code compared with the labels, and the label of each of its classes, int64 [K], fitted on train images."""

    name: str
    matching: Tensor
    train_predicted: Tensor
    test_predicted: Tensor


def matched_code(spec: LatentSpec, labels: int) -> str | None:
    """The code to compare with the labels: the first categorical code whose width is nearest to the number of `labels`, which is
    categorical_0 in every shipped config. None without a categorical code."""
    widths = dict(zip(spec.categorical_names, spec.categorical, strict=True))
    return min(widths, key=lambda name: abs(widths[name] - labels), default=None)


def match(model: EvaluatedModel, reals: Reals, group: Group) -> MatchedCode | None:
    """The matching of a model's code to the labels; None without labels or without a categorical code."""
    name = matched_code(model.spec, reals.classes)
    if name is None or reals.train_labels is None:
        return None
    position = model.spec.categorical_names.index(name)
    train, test = (model.posteriors(source, group).logits[position].argmax(1) for source in (reals.train, reals.test))
    widths = (model.spec.categorical[position], reals.classes)
    return MatchedCode(name, fit_matching(train, reals.train_labels, widths), train, test)


def code_error(model: EvaluatedModel, reals: Reals, group: Group) -> Metrics:
    """`code_error`, `code_error_fitted_on_test`, fractions; `code_error_interval`, the 95 % binomial interval of the first;
    `matching`: the code, the label and its name by class, and the images fitted on."""
    matched = match(model, reals, group)
    if matched is None or reals.test_labels is None:
        return {}
    predicted, labels = matched.test_predicted, reals.test_labels
    on_test = fit_matching(predicted, labels, (len(matched.matching), reals.classes))
    named = {str(number): label for number, label in enumerate(matched.matching.tolist()) if label != UNMATCHED}
    wrong = error(predicted, labels, matched.matching)
    names = {number: reals.class_names[label] for number, label in named.items()}
    return {
        "code_error": wrong,
        "code_error_interval": list(binomial_interval(wrong, len(labels))),
        "code_error_fitted_on_test": error(predicted, labels, on_test),
        "matching": {"code": matched.name, "labels": named, "names": names, "fitted_on": len(reals.train)},
    }
