"""Floors of the factor scores: what codes score that learned nothing about the factors."""

from __future__ import annotations

import torch

from infogan_dist.distributed.group import Group
from infogan_dist.evaluation.evaluated_model import EvaluatedModel
from infogan_dist.evaluation.metric_values import Metrics
from infogan_dist.evaluation.metrics.disentanglement import Variables
from infogan_dist.evaluation.metrics.factor_scores import read_codes, scored
from infogan_dist.evaluation.reals import Reals
from infogan_dist.latents import LatentSpec
from infogan_dist.networks import build_networks
from infogan_dist.randomness import Stream


def factor_floors(model: EvaluatedModel, reals: Reals, group: Group) -> Metrics:
    """`factor_floors`: the `factor_scores` of the model's FE and Q with their initial weights, and of random codes.

    Empty where the data has no known factors or the model no codes. Every rank calls it.
    """
    factors, spec = reals.test_factors, model.spec
    if factors is None or not spec.code_names:
        return {}
    networks = build_networks(model.config)
    FE, Q = networks.FE.to(model.device).eval(), networks.Q.to(model.device).eval()
    untrained = EvaluatedModel(model.G, FE, Q, model.config, None)
    codes = {
        "untrained FE and Q": read_codes(untrained.posteriors(reals.test, group), spec),
        "random codes": random_codes(spec, len(reals.test)),
    }
    found = group.on_main(
        lambda: {
            name: scored(each, factors.variables, spec.code_names, factors.names)["factor_scores"]
            for name, each in codes.items()
        }
    )
    return {"factor_floors": found}


def random_codes(spec: LatentSpec, count: int) -> Variables:
    """Codes of `count` images that do not depend on the images, drawn as for training, in the order of `spec.code_names`."""
    codes = spec.draw(Stream(0, "random codes"), torch.arange(count)).codes
    kinds = (True,) * len(spec.categorical) + (False,) * spec.continuous
    return Variables(torch.cat([codes.categorical.double(), codes.continuous.double()], dim=1), kinds)
