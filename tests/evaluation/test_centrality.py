"""ModelCentrality on models whose codes are known functions of the same four factors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from infogan_dist.config.running import ProcessesConfig
from infogan_dist.distributed.group import Group
from infogan_dist.evaluation.centrality import centralities, cross_scores
from infogan_dist.evaluation.evaluated_model import EvaluatedModel
from tests.conftest import ONE_PROCESS, tiny

IDENTITY = torch.eye(4)
PERMUTED = torch.tensor([[0.0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, -1, 0, 0]])
SCRAMBLED = torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2
"""A rotation that mixes all factors in each code."""


def linear(weight: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data = weight
    return layer.requires_grad_(False)


def model_of(codes: Tensor, seed: int) -> EvaluatedModel:
    """G draws the four factors of an image as four pixels, with `codes` [4, 4] times the factors as its codes; Q inverts G."""
    config = tiny("x", f"seed={seed}", "latents={noise: [{dim: 3}], categorical: [], continuous: 4}")
    G = nn.Sequential(linear(torch.cat([torch.zeros(4, 3), codes.T], dim=1)), nn.Unflatten(1, (1, 2, 2)))
    Q = nn.Sequential(nn.Flatten(), linear(torch.cat([codes, torch.zeros(4, 4)])))
    FE = linear(torch.eye(2))
    return EvaluatedModel(G, FE, Q, config, None, fresh=2000)


def test_of_two_models_that_agree_and_a_scrambled_one_the_scrambled_is_the_least_central() -> None:
    models = [model_of(codes, seed) for seed, codes in enumerate([SCRAMBLED, IDENTITY, PERMUTED])]
    images = models[2].draw(models[2].spec.vector(models[2].latents(torch.arange(5))))
    assert torch.allclose(
        models[2].posterior(models[2].recognise(images)).mean.float(),
        models[2].latents(torch.arange(5)).codes.continuous,
    ), "Q inverts G"
    with Group(ONE_PROCESS, 1, ProcessesConfig()) as group:
        scores = cross_scores(models, group)
    assert scores[1, 2] == scores[2, 1] == 1, "the order and the sign of codes do not count"
    assert scores.diagonal().eq(0).all()
    assert (scores[0, 1:] < 0.6).all()
    assert (scores[1:, 0] < 0.6).all()
    central = centralities(scores)
    assert central.index(min(central)) == 0
    assert central[1] > 0.6


def test_a_centrality_is_the_mean_of_the_symmetrised_scores_with_the_other_models() -> None:
    scores = torch.tensor([[9.0, 0.2, 0.4], [0.6, 9.0, 0.5], [0.0, 0.7, 9.0]], dtype=torch.float64)
    assert centralities(scores) == pytest.approx(((0.4 + 0.2) / 2, (0.4 + 0.6) / 2, (0.2 + 0.6) / 2))
