"""Known answers of the metrics that use the reference classifier's predictions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from infogan_dist.config.model import DataConfig
from infogan_dist.config.running import ProcessesConfig
from infogan_dist.data import mnist_mini
from infogan_dist.data.sources import ArraySource, scaled
from infogan_dist.distributed.group import Group
from infogan_dist.evaluation import reference_classifier
from infogan_dist.evaluation.evaluated_model import EvaluatedModel
from infogan_dist.evaluation.metrics import image_metrics
from infogan_dist.evaluation.metrics.code_error import MatchedCode
from infogan_dist.evaluation.metrics.continuous import continuous_effect, continuous_on_reals
from infogan_dist.evaluation.metrics.frechet import frechet_distance, kernel_distance
from infogan_dist.evaluation.metrics.image_metrics import ClassifierOutputs, random_features, scores
from infogan_dist.evaluation.metrics.modes import class_shares, mode_coverage, reverse_kl
from infogan_dist.evaluation.metrics.neighbourhoods import neighbourhood_scores
from infogan_dist.evaluation.metrics.non_digit import least_confidence, non_digit_rate
from infogan_dist.evaluation.metrics.traversal import traversal_consistency
from infogan_dist.evaluation.reals import Reals
from infogan_dist.evaluation.reference_classifier import (
    DIGITS,
    FEATURES,
    ClassifierOutput,
    classifier_file,
    split_output,
)
from infogan_dist.evaluation.table import _compared_images
from infogan_dist.randomness import Stream
from infogan_dist.registry.metrics import METRICS
from tests.conftest import ONE_PROCESS, tiny


def normal(count: int, columns: int, name: str) -> Tensor:
    return Stream(0, name).normal(torch.arange(count), columns)


def whitened(features: Tensor) -> Tensor:
    """The same points with mean 0 and covariance 1, exactly."""
    centred = features.double() - features.double().mean(0)
    root = torch.linalg.cholesky(torch.cov(centred.T))
    return torch.linalg.solve_triangular(root, centred.T, upper=False).T


def test_the_frechet_distance_of_known_gaussians() -> None:
    x = whitened(normal(500, 6, "x"))
    shift = torch.tensor([3.0, 0, 0, -4.0, 0, 0], dtype=torch.float64)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, x + shift) == pytest.approx(25)
    scale = torch.tensor([1.0, 2, 3, 1, 1, 0.5], dtype=torch.float64)
    assert frechet_distance(x, x * scale) == pytest.approx((1 - scale).square().sum().item())  # Σ commute: |σ1 - σ2|²


def test_the_frechet_distance_of_covariances_that_do_not_commute() -> None:
    """Against the definition, with scipy's root of the matrix product."""
    from scipy.linalg import sqrtm

    x, y = normal(300, 4, "x").double(), normal(200, 4, "y").double() @ normal(4, 4, "mix").double() + 1
    root = torch.from_numpy(sqrtm((torch.cov(x.T) @ torch.cov(y.T)).numpy()).real)
    traces = (torch.cov(x.T) + torch.cov(y.T) - 2 * root).trace()
    expected = (x.mean(0) - y.mean(0)).square().sum() + traces
    assert frechet_distance(x, y) == pytest.approx(expected.item(), rel=1e-9)
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-9)


def test_the_frechet_distance_is_finite_where_a_feature_has_no_variance() -> None:
    x = whitened(normal(500, 3, "x"))
    constant = torch.cat((x, torch.zeros(500, 2)), dim=1)
    assert frechet_distance(constant, constant + 1) == pytest.approx(5)


def test_the_kernel_distance_is_the_mean_over_all_pairs() -> None:
    x, y = normal(7, 3, "x").double(), normal(5, 3, "y").double()

    def k(a: Tensor, b: Tensor) -> float:
        return ((a @ b).item() / 3 + 1) ** 3

    within = [
        sum(k(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j) / (len(z) * (len(z) - 1))
        for z in (x, y)
    ]
    between = sum(k(a, b) for a in x for b in y) / 35
    assert kernel_distance(x, y) == pytest.approx(sum(within) - 2 * between)


def test_the_kernel_distance_is_unbiased_and_detects_a_shift() -> None:
    draws = [kernel_distance(normal(100, 4, f"x{i}"), normal(100, 4, f"y{i}")) for i in range(40)]
    assert min(draws) < 0 < max(draws)
    spread = torch.tensor(draws).std().item()
    assert abs(sum(draws) / 40) < 3 * spread / math.sqrt(40)
    assert kernel_distance(normal(100, 4, "x"), normal(100, 4, "y") + 1) > 10 * spread


def test_the_distances_equal_those_of_torchmetrics() -> None:
    fid, kid = (pytest.importorskip(f"torchmetrics.image.{name}") for name in ("fid", "kid"))

    class Features(torch.nn.Module):
        num_features = 4

        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1)

    x, y = (normal(64, 4, name).double().view(64, 1, 2, 2) for name in "xy")
    y = y + 0.5
    metric = fid.FrechetInceptionDistance(Features(), normalize=True, input_img_size=(1, 2, 2))
    metric.set_dtype(torch.float64)
    metric.update(x, real=True)
    metric.update(y, real=False)
    assert frechet_distance(x.flatten(1), y.flatten(1)) == pytest.approx(metric.compute().item(), rel=1e-6)
    kernel = kid.KernelInceptionDistance(Features(), subsets=1, subset_size=64, normalize=True)
    kernel.update(x, real=True)
    kernel.update(y, real=False)
    assert kernel_distance(x.flatten(1), y.flatten(1)) == pytest.approx(kernel.compute()[0].item(), rel=1e-4)


def test_identical_sets_score_1_and_distant_sets_0() -> None:
    x = normal(1500, 5, "x")  # more than one block of rows
    assert neighbourhood_scores(x, x) == {"precision": 1, "recall": 1, "density": 1, "coverage": 1}
    assert neighbourhood_scores(x, x + 100) == {"precision": 0, "recall": 0, "density": 0, "coverage": 0}


def test_neighbourhoods_on_a_line() -> None:
    """Reals at 0, 1, 2, 3, k = 1: every open ball has radius 1. Fakes at 0.4, 0.5, 9: radii 0.1, 0.1, 8.5."""
    reals = torch.arange(4.0)[:, None]
    found = neighbourhood_scores(reals, torch.tensor([[0.4], [0.5], [9.0]]), k=1)
    assert found["precision"] == pytest.approx(2 / 3)
    assert found["recall"] == pytest.approx(3 / 4)  # 1, 2 and 3 are in the ball around 9
    assert found["density"] == pytest.approx(4 / 3)  # each of two fakes is in the balls of 0 and of 1
    assert found["coverage"] == pytest.approx(2 / 4)


def test_mode_collapse_keeps_precision_and_lowers_recall_and_coverage() -> None:
    x, y = normal(200, 3, "x"), normal(200, 3, "y")
    reals = torch.cat((x, x + 100))
    found = neighbourhood_scores(reals, torch.cat((y, y[:100] * 0.99, y[:100] * 1.01)))
    assert found["precision"] > 0.8
    assert found["recall"] <= 0.5
    assert found["coverage"] <= 0.5


def test_1_percent_of_reals_are_non_digits_by_construction() -> None:
    confidences = torch.linspace(0.3, 1, 1000, dtype=torch.float64)[torch.randperm(1000)]
    least = least_confidence(confidences)
    assert non_digit_rate(confidences, least) == pytest.approx(0.01)
    assert non_digit_rate(torch.tensor([0.0, least - 1e-9, least, 1.0], dtype=torch.float64), least) == 0.5


def test_consistency_counts_samples_of_the_matched_digit() -> None:
    drawn = torch.tensor([0, 0, 1, 1, 2, 2])
    digits = torch.tensor([7, 7, 3, 4, 2, 2])
    assert traversal_consistency(digits, drawn, torch.tensor([7, 3, -1])) == pytest.approx(3 / 6)
    assert traversal_consistency(digits, drawn, torch.tensor([7, 4, 2])) == pytest.approx(5 / 6)


def test_modes_of_even_digits_of_one_digit_and_of_a_rare_digit() -> None:
    even = class_shares(torch.arange(10).repeat(20), 10)
    only = class_shares(torch.full((200,), 3), 10)
    assert (mode_coverage(even, even), reverse_kl(even, even)) == (1, 0)
    assert mode_coverage(only, even) == pytest.approx(0.1)
    assert reverse_kl(only, even) == pytest.approx(math.log(10))
    half = class_shares(torch.arange(5).repeat(40), 10)
    assert (mode_coverage(half, even), reverse_kl(half, even)) == (0.5, pytest.approx(math.log(2)))
    rare = class_shares(torch.cat((torch.arange(9).repeat(111), torch.tensor([9]))), 10)
    assert mode_coverage(rare, even) == pytest.approx(0.9), "one sample in a thousand covers no class of ten"
    assert reverse_kl(even, only) == math.inf


def random_output(name: str, count: int) -> ClassifierOutput:
    digits = Stream(0, name).integers(torch.arange(count), 1, below=DIGITS)[:, 0]
    confidence = 3 + 5 * Stream(0, f"{name} sure").uniform(torch.arange(count), 1)
    logits = torch.nn.functional.one_hot(digits, DIGITS) * confidence
    return ClassifierOutput(normal(count, FEATURES, name) + 3 * logits[:, :1], logits)


def test_fakes_that_copy_train_digits_reach_the_floors_and_others_do_not() -> None:
    test, train = random_output("test", 400), random_output("train", 400)
    same = scores(ClassifierOutputs(train, test, train))
    assert (same["frechet"], same["kernel"]) == (same["frechet_floor"], same["kernel_floor"])
    assert same["mode_coverage"] == 1
    assert same["non_digit_rate"] < 0.05
    unsure = ClassifierOutput(train.features - 20, train.logits / 10)
    broken = scores(ClassifierOutputs(unsure, test, train))
    assert broken["non_digit_rate"] == 1
    assert broken["frechet"] > same["frechet"] + 0.9 * FEATURES * 400
    assert broken["frechet_floor"] == same["frechet_floor"]
    assert broken["precision"] < 0.05
    for name in ("precision", "recall", "density", "coverage"):
        assert same[name] == same[f"{name}_ceiling"] == broken[f"{name}_ceiling"]


def test_random_features_need_no_training_and_distinguish_digits_from_noise() -> None:
    first, second = reference_classifier.untrained(), reference_classifier.untrained()
    digits = scaled(torch.from_numpy(mnist_mini.load("test")[0])[:600, None])
    noise = 2 * Stream(0, "noise").uniform(torch.arange(300), 784).view(-1, 1, 28, 28) - 1
    test, train, other = (split_output(first(images)) for images in (digits[:300], digits[300:], noise))
    assert torch.equal(split_output(second(digits[:300])).features, test.features)
    real = random_features(ClassifierOutputs(train, test, train))
    assert all(real[name] == real[f"{name}_ceiling"] for name in ("precision", "recall", "density", "coverage"))
    assert real["coverage"] > 0.8
    fake = random_features(ClassifierOutputs(other, test, train))
    assert fake["frechet"] > 10 * fake["frechet_floor"] == 10 * real["frechet"]
    assert max(fake["precision"], fake["coverage"]) < 0.05


def test_sets_of_different_sizes_are_reduced_to_the_smallest() -> None:
    """The Fréchet distance decreases with the number of images."""
    test, train, fakes = random_output("test", 400), random_output("train", 100), random_output("fakes", 400)
    found = scores(ClassifierOutputs(fakes, test, train))
    first = scores(ClassifierOutputs(ClassifierOutput(fakes.features[:100], fakes.logits), test, train))
    assert found["frechet"] == first["frechet"]


class CopyingGenerator(torch.nn.Module):
    """A G that copies a train digit of the given class and shears it by the continuous code."""

    def __init__(self, digit_of_class: Tensor):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        images, labels = map(torch.from_numpy, mnist_mini.load("train"))
        self.digits = torch.stack([images[labels == digit][:100] for digit in range(DIGITS)])[digit_of_class]

    def forward(self, vector: Tensor) -> Tensor:
        z, classes, continuous = vector.split((5, DIGITS, 1), dim=1)
        drawn = self.digits[classes.argmax(1), ((z[:, 0] + 1) / 2 * 99).long()]
        x, y = torch.ones_like(continuous), torch.zeros_like(continuous)
        rows = torch.cat((x, 0.3 * continuous, y, y, x, y), dim=1).view(-1, 2, 3)  # to the right at the top
        grid = affine_grid(rows, [len(rows), 1, 28, 28], align_corners=False)
        return 2 * grid_sample(drawn[:, None] / 255, grid, align_corners=False) - 1


@pytest.fixture(scope="module")
def group() -> Iterator[Group]:
    with Group(ONE_PROCESS, 1, ProcessesConfig()) as group:
        yield group


@pytest.fixture
def quick_classifier(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(reference_classifier, "classifier_file", partial(classifier_file, steps=60))


@pytest.mark.usefixtures("quick_classifier")
def test_metrics_of_a_generator_that_copies_train_digits(
    group: Group, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    digit_of_class = torch.tensor([3, 1, 4, 0, 5, 9, 2, 6, 8, 7])
    none = torch.zeros(0)
    known = MatchedCode("categorical_0", digit_of_class, none, none)
    monkeypatch.setattr(image_metrics, "match", lambda *_: known)
    latents = "latents={noise: [{dim: 5, distribution: uniform}], categorical: [10], continuous: 1}"
    config = tiny(tmp_path, latents)
    G = CopyingGenerator(digit_of_class)
    model = EvaluatedModel(G, G, G, config, None, fresh=500)
    reals = Reals.open(config.data, 2000, 500)
    metrics = image_metrics.image_metrics(model, reals, group)
    assert metrics["traversal_consistency"] > 0.8
    assert metrics["mode_coverage"] == 1
    assert metrics["reverse_kl"] < 0.05
    assert metrics["non_digit_rate"] < 0.1
    assert metrics["classifier_accuracy"] > 0.8
    assert 0 < metrics["frechet_floor"] < metrics["frechet"], "G shears the digits"
    assert metrics["coverage"] > 0.5
    assert 0.8 < metrics["coverage_ceiling"] <= 1
    assert metrics["random_features"].keys() == {
        *("frechet", "frechet_floor", "precision", "recall", "density", "coverage"),
        *("precision_ceiling", "recall_ceiling", "density_ceiling", "coverage_ceiling"),
    }
    printed = "\n".join(_compared_images(metrics))
    assert f"coverage {metrics['coverage']:.4g} ({metrics['coverage_ceiling']:.4g})" in printed
    assert "randomly initialised network" in printed
    assert len(metrics["classifier_sha256"]) == 64
    assert image_metrics.image_metrics(model, reals, group) == metrics
    G.digits = G.digits.roll(1, dims=0)
    assert image_metrics.image_metrics(model, reals, group)["traversal_consistency"] < 0.2
    effect = continuous_effect(model, reals, group)["continuous_effect"]["continuous_0"]
    assert effect["slant"]["signed"] > 0.95
    assert effect["slant"]["change"] == pytest.approx(2 * math.atan(0.3), abs=0.1)
    assert abs(effect["width"]["change"]) < 0.5


def test_the_reference_classifier_of_imbalanced_digits_learns_all_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    learned = {}
    monkeypatch.setattr(reference_classifier, "classifier_file", lambda *arguments: learned.setdefault("by", arguments))
    image_metrics._classifier_file(Reals.open(DataConfig(name="imbalanced-mnist"), 100, 100))
    images, labels, name = learned["by"]
    expected = map(torch.from_numpy, mnist_mini.load("train"))
    assert all(map(torch.equal, (images[:, 0], labels.to(torch.uint8)), expected))
    assert name == "mnist-mini"


def test_metrics_that_do_not_apply_are_absent(group: Group, tmp_path: Path) -> None:
    config = tiny(tmp_path)
    G = torch.nn.Linear(1, 1)
    model = EvaluatedModel(G, G, G, config, None)
    unlabelled = Reals(config.data, ArraySource(torch.zeros(1)), ArraySource(torch.zeros(1)), None, None)
    clothes = Reals(DataConfig(name="fashion-mnist"), unlabelled.train, unlabelled.test, torch.zeros(1), torch.zeros(1))
    for reals in (unlabelled, clothes):
        assert image_metrics.image_metrics(model, reals, group) == {}
    for metric in (continuous_effect, continuous_on_reals):
        assert metric(model, clothes, group) == {}
    for metric in (image_metrics.image_metrics, continuous_effect, continuous_on_reals):
        assert METRICS.load(metric.__name__, "implementation") is metric
