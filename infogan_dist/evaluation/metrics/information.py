"""The mutual information lower bound on images of G_ema. It does not measure predictions on real images; the code error does."""

from __future__ import annotations

from infogan_dist.distributed.group import Group
from infogan_dist.evaluation.evaluated_model import EvaluatedModel
from infogan_dist.evaluation.metric_values import Metrics
from infogan_dist.evaluation.reals import Reals
from infogan_dist.latents import Codes, LatentSpec
from infogan_dist.losses import CodePosterior, information_bound, information_ceilings, negative_log_likelihoods


def bounds(posterior: CodePosterior, codes: Codes, spec: LatentSpec) -> dict[str, float]:
    """L_I by code in nats, H(c) + E[log Q(c | G(z, c))] (Chen et al. 2016, Eq. 5); negative where Q is worse than the prior."""
    nll = negative_log_likelihoods(posterior, codes, spec)
    return {name: bound.item() for name, bound in information_bound(nll, spec).items()}


def information(model: EvaluatedModel, reals: Reals, group: Group) -> Metrics:
    """`mutual_information` by code and `mutual_information_ceiling` of the codes that have one, nats."""
    if not model.spec.code_names:
        return {}
    posterior, codes = model.fakes(group)
    metrics: Metrics = {"mutual_information": bounds(posterior, codes, model.spec)}
    ceilings = information_ceilings(model.spec, model.config.objective)
    return metrics | ({"mutual_information_ceiling": ceilings} if ceilings else {})
