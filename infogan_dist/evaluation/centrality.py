"""ModelCentrality: how well the continuous codes of several models agree, without labels (Lin et al. 2020).

Each model in turn is the ground truth for the others: its images, with the codes that they were drawn from as known factors, score
the codes that another model's Q predicts. A model whose codes the others find again, each in one code, is central.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from infogan_dist.distributed.group import Group
from infogan_dist.evaluation.evaluated_model import EvaluatedModel
from infogan_dist.evaluation.metrics.disentanglement import Variables, factor_vae_score
from infogan_dist.randomness import Stream
from infogan_dist.sampling.batches import batches_of


def cross_scores(models: Sequence[EvaluatedModel], group: Group) -> Tensor:
    """The FactorVAE score of the continuous codes that model j's Q predicts on images of model i's G, float64 [models, models].

    Row i has the continuous codes of model i as factors, column j the Q of model j. The diagonal is not computed, and 0. Every rank
    calls it. The models draw images of one size and have equally many continuous codes.
    """
    scores = torch.zeros(len(models), len(models), dtype=torch.float64)
    for i, truth in enumerate(models):
        images = truth.sample(truth.fresh, group)
        factors = _variables(truth.latents(torch.arange(truth.fresh)).codes.continuous)
        for j, model in enumerate(models):
            if i != j:
                codes = _variables(_means(model, images, group))
                scores[i, j] = group.on_main(partial(factor_vae_score, codes, factors, Stream(0, "centrality")))
    return scores


def centralities(scores: Tensor) -> tuple[float, ...]:
    """The mean over the other models of the symmetrised scores, [models, models], by model; the largest is that of the medoid."""
    symmetric = (scores + scores.T) / 2
    return tuple(((symmetric.sum(1) - symmetric.diagonal()) / (len(scores) - 1)).tolist())


def _means(model: EvaluatedModel, images: Tensor, group: Group) -> Tensor:
    """The means of the continuous codes that a model's Q predicts on images [N, C, H, W], float64 [N, codes] on the CPU."""
    output = group.map_batches(batches_of(len(images)), lambda ours: model.recognise(images[ours]))
    return model.posterior(output[: len(images)]).mean


def _variables(values: Tensor) -> Variables:
    return Variables(values, (False,) * values.shape[1])
