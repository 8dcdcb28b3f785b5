"""Disentanglement scores of Q's codes on data with known factors, such as data.name = sprites."""

from __future__ import annotations

import torch

from infogan_dist.distributed.group import Group
from infogan_dist.evaluation.evaluated_model import EvaluatedModel
from infogan_dist.evaluation.metric_values import Metrics
from infogan_dist.evaluation.metrics.disentanglement import (
    Variables,
    disentanglement_completeness_informativeness,
    factor_vae_score,
    information,
    mutual_information_gap,
    predictability_gap,
)
from infogan_dist.evaluation.reals import Reals
from infogan_dist.latents import LatentSpec
from infogan_dist.losses import CodePosterior
from infogan_dist.randomness import Stream


def read_codes(posterior: CodePosterior, spec: LatentSpec) -> Variables:
    """Q's predictions in the order of `spec.code_names`: the most likely class of a categorical code, the mean of a continuous one."""
    classes = [logits.argmax(1, keepdim=True).double() for logits in posterior.logits]
    kinds = (True,) * len(classes) + (False,) * spec.continuous
    return Variables(torch.cat([*classes, posterior.mean.double()], dim=1), kinds)


def factor_scores(model: EvaluatedModel, reals: Reals, group: Group) -> Metrics:
    """`factor_scores` of Q on test images: `mig`, `factor_vae`, `sap` (a predictability gap), `disentanglement`, `completeness`,
    `informativeness`; `information_by_factor`: mutual information of each code with each factor, nats."""
    factors = reals.test_factors
    if factors is None or not model.spec.code_names:
        return {}
    codes = read_codes(model.posteriors(reals.test, group), model.spec)
    return group.on_main(lambda: scored(codes, factors.variables, model.spec.code_names, factors.names))


def scored(codes: Variables, factors: Variables, code_names: tuple[str, ...], factor_names: tuple[str, ...]) -> Metrics:
    """The scores of N images. Their random draws are the same for every run."""
    stream = Stream(0, "factor scores")
    by_factor = {
        code: dict(zip(factor_names, row, strict=True))
        for code, row in zip(code_names, information(codes, factors).tolist(), strict=True)
    }
    return {
        "factor_scores": {
            "mig": mutual_information_gap(codes, factors),
            "factor_vae": factor_vae_score(codes, factors, stream),
            "sap": predictability_gap(codes, factors),
            **disentanglement_completeness_informativeness(codes, factors, stream),
        },
        "information_by_factor": by_factor,
    }
