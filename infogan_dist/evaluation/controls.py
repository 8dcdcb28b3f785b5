"""Controls for the code error: predictions without an InfoGAN or with labels, matched on train images and scored on test images as a
code is."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.cluster.vq import kmeans2, vq
from torch import Tensor

from infogan_dist.data.neighbours import COMPONENTS, deskewed_pixels, principal_directions
from infogan_dist.data.sources import ImageSource
from infogan_dist.distributed.group import Group
from infogan_dist.evaluation.evaluated_model import EvaluatedModel
from infogan_dist.evaluation.intervals import binomial_interval
from infogan_dist.evaluation.metric_values import Metrics
from infogan_dist.evaluation.metrics.clustering import agreement
from infogan_dist.evaluation.metrics.code_error import error, fit_matching
from infogan_dist.evaluation.probes import NEIGHBOURS, feature_networks, features, probes
from infogan_dist.evaluation.reals import Reals
from infogan_dist.randomness import Stream

Array = npt.NDArray[Any]
Clustering = Callable[[Array, Array, int], tuple[Array, Array]]
SEED = 0  # controls depend on the data, not on a run
ITERATIONS = 100  # of Lloyd's algorithm, which converges in about as many on MNIST
INITIALISATIONS = 10  # of k-means on components; the one with the least inertia counts, which needs no labels
MIXTURE_ITERATIONS = 200  # of expectation maximisation
GRAPH_NEIGHBOURS = 10  # of a point in the graph of spectral clustering, itself included: scikit-learn's default
SPACE = "deskewed components"
CHUNK = 4096  # images read at a time


def controls(reals: Reals, group: Group) -> list[Metrics]:
    """A row each for k-means on pixels, random codes and a single class, and with scikit-learn for those of `on_components`; no row
    without labels. Every rank calls it."""
    if reals.train_labels is None or reals.test_labels is None:
        return []
    labels, stream = (reals.train_labels, reals.test_labels), Stream(SEED, "controls")
    predicted = {
        "k-means on pixels": group.on_main(lambda: by_k_means(reals.train, reals.test, reals.classes)),
        "random codes": (
            random(len(labels[0]), reals.classes, stream.derived("train")),
            random(len(labels[1]), reals.classes, stream.derived("test")),
        ),
        "one class for all": (torch.zeros_like(labels[0]), torch.zeros_like(labels[1])),
        **on_components(cache(lambda: components(reals)), labels[0], reals.classes, group),
    }
    return [row(name, each, reals) for name, each in predicted.items()]


def feature_controls(model: EvaluatedModel, name: str, reals: Reals, group: Group) -> list[Metrics]:
    """A row for each of `probes` on the features of the run `name`: of FE, and of Q's hidden layer. They are trained with labels.

    No row without labels or without scikit-learn. Every rank calls it.
    """
    labels = reals.train_labels
    if labels is None or reals.test_labels is None or find_spec("sklearn") is None:
        return []
    rows = []
    for space, network in feature_networks(model).items():
        train, test = (features(network, source, group) for source in (reals.train, reals.test))
        found = group.on_main(partial(probes, train, test, labels))
        rows += [row(f"{probe} {space} ({name}), with labels", (labels, each), reals) for probe, each in found.items()]
    return rows


def row(name: str, predicted: tuple[Tensor, Tensor], reals: Reals) -> Metrics:
    """The row of one control: its name, its data and its scores. Predicted classes of train and test images are int64."""
    assert reals.train_labels is not None
    assert reals.test_labels is not None
    labels = reals.train_labels, reals.test_labels
    return {"control": name, "data": reals.data.name, **scored(predicted, labels, reals.classes)}


def components(reals: Reals) -> tuple[Tensor, Tensor]:
    """Train and test images deskewed and projected onto the directions that `objective.neighbour_positives` compares, fitted on train
    images, float32 [N, COMPONENTS] each."""
    train, test = (
        torch.cat([deskewed_pixels(source, indexes) for indexes in torch.arange(len(source)).split(CHUNK)])
        for source in (reals.train, reals.test)
    )
    mean, directions = principal_directions(train, COMPONENTS)
    return (train - mean) @ directions, (test - mean) @ directions


def on_components(
    points: Callable[[], tuple[Tensor, Tensor]], labels: Tensor, classes: int, group: Group
) -> dict[str, tuple[Tensor, Tensor]]:
    """Predicted classes of train and test images, int64 each, of controls on their components; none without scikit-learn.

    k-means, the Gaussian mixture (full covariances) and spectral clustering use no label. The `probes` are trained on the `labels` of
    the train images. `points` gives the components of both, float32 [N, F] and [M, F]; only rank zero calls it. Every rank calls this;
    each control is one task of rank zero, because it may take minutes.
    """
    if find_spec("sklearn") is None:  # the extra `evaluate` is not installed
        return {}

    def clusters(cluster: Clustering) -> tuple[Tensor, Tensor]:
        train, test = points()
        scale = train.std()
        found = cluster((train / scale).numpy(), (test / scale).numpy(), classes)
        return torch.from_numpy(found[0]).long(), torch.from_numpy(found[1]).long()

    predicted = {f"{name} {SPACE}": group.on_main(partial(clusters, each)) for name, each in CLUSTERINGS.items()}
    probed = group.on_main(lambda: probes(*points(), labels))
    return predicted | {f"{name} {SPACE}, with labels": (labels, each) for name, each in probed.items()}


def by_k_means_of_several(train: Array, test: Array, classes: int) -> tuple[Array, Array]:
    """Clusters of train and test points, float32 [N, F] and [M, F], by the best of INITIALISATIONS runs of k-means. Needs scikit-learn."""
    from sklearn.cluster import KMeans

    fitted = KMeans(classes, n_init=INITIALISATIONS, random_state=SEED).fit(train)
    return fitted.predict(train), fitted.predict(test)


def by_gaussian_mixture(train: Array, test: Array, classes: int) -> tuple[Array, Array]:
    """The same by a Gaussian mixture with full covariances. Needs scikit-learn."""
    from sklearn.mixture import GaussianMixture

    fitted = GaussianMixture(classes, max_iter=MIXTURE_ITERATIONS, random_state=SEED).fit(train)
    return fitted.predict(train), fitted.predict(test)


def by_spectral_clustering(train: Array, test: Array, classes: int) -> tuple[Array, Array]:
    """Clusters of train and test points, int [N] and [M], by normalised cuts (Shi and Malik 2000; von Luxburg 2007, section 4).

    The graph joins each train point to its GRAPH_NEIGHBOURS nearest. k-means clusters the eigenvectors of its normalised Laplacian
    that have the smallest eigenvalues. A test point takes the cluster of most of its NEIGHBOURS nearest train points. Points are
    float32 [N, F] and [M, F]. The search for neighbours takes O(N²) time. Needs scikit-learn.
    """
    from sklearn.cluster import SpectralClustering
    from sklearn.neighbors import KNeighborsClassifier

    clustering = SpectralClustering(
        classes,
        affinity="nearest_neighbors",
        n_neighbors=GRAPH_NEIGHBOURS,
        eigen_solver="lobpcg",  # finds equal eigenvalues, which a graph of several components has
        n_init=INITIALISATIONS,
        random_state=SEED,
    )
    clusters = clustering.fit_predict(train)
    return clusters, KNeighborsClassifier(NEIGHBOURS).fit(train, clusters).predict(test)


CLUSTERINGS: dict[str, Clustering] = {
    "k-means on": by_k_means_of_several,
    "Gaussian mixture on": by_gaussian_mixture,
    "spectral clustering of": by_spectral_clustering,
}


def scored(predicted: tuple[Tensor, Tensor], labels: tuple[Tensor, Tensor], classes: int) -> Metrics:
    """`code_error` with its interval, `purity`, `nmi` and `ari` of the predicted classes of train and test images, int64 each."""
    wrong = error(predicted[1], labels[1], fit_matching(predicted[0], labels[0], (classes, classes)))
    interval = list(binomial_interval(wrong, len(labels[1])))
    return {"code_error": wrong, "code_error_interval": interval, **agreement(predicted[1], labels[1])}


def random(count: int, classes: int, stream: Stream) -> Tensor:
    """A random class for each of `count` images, int64 [count]."""
    return stream.integers(torch.arange(count), 1, classes)[:, 0]


def by_k_means(train: ImageSource, test: ImageSource, classes: int) -> tuple[Tensor, Tensor]:
    """Classes of train and test images, int64 each: the nearest centre of k-means on the pixels of the train images.

    One k-means++ initialisation; the error depends on it (README.md).
    """
    points, others = (pixels(source).float().numpy() for source in (train, test))
    centres, _ = kmeans2(points, classes, iter=ITERATIONS, minit="++", rng=np.random.default_rng(SEED))
    return torch.from_numpy(vq(points, centres)[0]).long(), torch.from_numpy(vq(others, centres)[0]).long()


def pixels(source: ImageSource) -> Tensor:
    """All images of a source as uint8 [N, C·H·W]."""
    return torch.cat([source.read(indexes).flatten(1) for indexes in torch.arange(len(source)).split(CHUNK)])
