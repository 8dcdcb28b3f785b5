"""Probes: classifiers trained on the labels of train images in a feature space. They show which labels the features contain."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from infogan_dist.data.sources import ImageSource, scaled
from infogan_dist.distributed.group import Group
from infogan_dist.evaluation.evaluated_model import EvaluatedModel
from infogan_dist.sampling.batches import batches_of

NEIGHBOURS = 5
ITERATIONS = 1000  # at most, of L-BFGS; about 50 are enough for FE's features of MNIST


def probes(train: Tensor, test: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The labels that a linear probe and the nearest neighbours predict for test features, int64 [M] each.

    Both are fitted on the `labels`, int64 [N], of train features. Features are float32 [N, F] and [M, F]. The linear probe is
    logistic regression with an L2 penalty on features scaled to a standard deviation of 1 over all of them. Needs scikit-learn.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    scale = float(train.std()) or 1.0
    points, others, digits = (train / scale).numpy(), (test / scale).numpy(), labels.numpy()
    linear = LogisticRegression(max_iter=ITERATIONS).fit(points, digits)
    nearest = KNeighborsClassifier(NEIGHBOURS).fit(points, digits)
    return {
        "linear probe on": torch.from_numpy(linear.predict(others)),
        f"{NEIGHBOURS} nearest neighbours of": torch.from_numpy(nearest.predict(others)),
    }


def feature_networks(model: EvaluatedModel) -> dict[str, nn.Module]:
    """The networks whose features are probed: FE, and FE with Q's layers before the last, where Q is a sequence of layers."""
    found = {"FE": model.FE}
    if isinstance(model.Q, nn.Sequential) and len(model.Q) > 1:
        found["Q's hidden layer"] = nn.Sequential(model.FE, *list(model.Q)[:-1])
    return found


def features(network: nn.Module, source: ImageSource, group: Group) -> Tensor:
    """The output of `network` for each image of a source, flattened, float32 [N, F] on the CPU. Every rank calls it."""

    @torch.no_grad()
    def read(ours: Tensor) -> Tensor:
        output: Tensor = network.forward(scaled(source.read(ours)).to(next(network.parameters())))
        return output.flatten(1).float()

    return group.map_batches(batches_of(len(source)), read)[: len(source)].cpu()
