"""Code error where Q's predictions are averaged over augmented copies of each image. It is reported beside the code error."""

from __future__ import annotations

import torch
from torch import Tensor

from infogan_dist.data.augmentation import Augmentation, draws_at
from infogan_dist.data.sources import ImageSource, scaled
from infogan_dist.distributed.group import Group
from infogan_dist.evaluation.evaluated_model import EvaluatedModel
from infogan_dist.evaluation.metric_values import Metrics
from infogan_dist.evaluation.metrics.code_error import error, match
from infogan_dist.evaluation.reals import Reals
from infogan_dist.randomness import Stream
from infogan_dist.sampling.batches import batches_of

COPIES = 16  # of each image


def averaged_code_error(model: EvaluatedModel, reals: Reals, group: Group) -> Metrics:
    """`code_error_averaged`, a fraction: Q's mean probabilities over COPIES augmented copies of each test image, under the matching of
    `code_error`. Absent where the run has no warps to augment with."""
    matched = match(model, reals, group)
    if matched is None or reals.test_labels is None or not model.config.augmentation.warps:
        return {}
    position = model.spec.categorical_names.index(matched.name)
    predicted = averaged_probabilities(model, reals.test, position, group).argmax(1)
    return {"code_error_averaged": error(predicted, reals.test_labels, matched.matching)}


def averaged_probabilities(model: EvaluatedModel, source: ImageSource, code: int, group: Group) -> Tensor:
    """Mean probabilities of the categorical code number `code`, float64 [N, K], over COPIES copies of each image of `source`.

    The copies are warped as the run's augmentation says, without cuts and pastes. They do not depend on the run's seed or the ranks.
    """
    stream, none = Stream(0, "averaged code error"), torch.zeros(())
    total = None
    for copy in range(COPIES):

        def read(ours: Tensor, first: int = copy * len(source)) -> Tensor:
            config = model.config.augmentation
            warp = Augmentation(config, draws_at(stream, first + ours, config), none)
            return model.recognise(warp(scaled(source.read(ours))))

        output = group.map_batches(batches_of(len(source)), read)[: len(source)]
        probabilities = model.posterior(output).logits[code].softmax(1)
        total = probabilities if total is None else total + probabilities
    assert total is not None
    return total / COPIES
