"""Known answers of the metrics of the codes."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from infogan_dist.config.model import DataConfig, NoiseConfig
from infogan_dist.config.running import ProcessesConfig
from infogan_dist.data import mnist_mini
from infogan_dist.data.neighbours import nearest_neighbours
from infogan_dist.data.sources import ArraySource
from infogan_dist.distributed.group import Group
from infogan_dist.errors import UserError
from infogan_dist.evaluation.controls import by_k_means, by_spectral_clustering, components, on_components, scored
from infogan_dist.evaluation.labels import open_labelled
from infogan_dist.evaluation.measure import evaluate_networks
from infogan_dist.evaluation.metric_values import flat
from infogan_dist.evaluation.metrics.calibration import expected_calibration_error, mean_entropy
from infogan_dist.evaluation.metrics.clustering import agreement, purity
from infogan_dist.evaluation.metrics.code_error import UNMATCHED, error, fit_matching, matched_code
from infogan_dist.evaluation.metrics.information import bounds
from infogan_dist.evaluation.metrics.usage import entropy_of_mean
from infogan_dist.evaluation.reals import Reals
from infogan_dist.latents import Codes, LatentSpec
from infogan_dist.losses import CodePosterior
from infogan_dist.networks import build_networks
from infogan_dist.randomness import Stream
from tests.conftest import ONE_PROCESS, tensors_of, tiny

LABELS = torch.arange(10).repeat_interleave(100)
PERMUTED = (LABELS * 3 + 4) % 10


def merged_and_split() -> Tensor:
    """Labels 0 and 1 share class 0, label 2 is split over classes 1 and 2, and each other label has one class."""
    predicted = LABELS.clone()
    predicted[LABELS == 1] = 0
    predicted[(LABELS == 2).nonzero()[::2, 0]] = 1
    return predicted


def test_identical_and_permuted_classes_have_no_error() -> None:
    for predicted in (LABELS, PERMUTED):
        matching = fit_matching(predicted, LABELS, (10, 10))
        assert error(predicted, LABELS, matching) == 0
        assert torch.equal(matching[predicted], LABELS)


def test_a_merged_and_a_split_class_cost_15_percent_while_purity_reads_90() -> None:
    predicted = merged_and_split()
    assert error(predicted, LABELS, fit_matching(predicted, LABELS, (10, 10))) == pytest.approx(0.15)
    assert purity(predicted, LABELS) == pytest.approx(0.90)


def test_the_matching_is_globally_optimal_and_is_not_fitted_again() -> None:
    predicted, labels = torch.tensor([0] * 5 + [1] * 4 + [0] * 4), torch.tensor([0] * 5 + [0] * 4 + [1] * 4)
    matching = fit_matching(predicted, labels, (2, 2))
    assert matching.tolist() == [1, 0]  # 4 + 4 agree; the greedy matching, class 0 = label 0, agrees on 5
    assert error(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 0]), matching) == pytest.approx(1 / 3)


def test_unmatched_classes_and_unmatched_labels_are_errors() -> None:
    more = LABELS + 10 * (torch.arange(1000) % 2)
    matching = fit_matching(more, LABELS, (20, 10))
    assert (matching == UNMATCHED).sum() == 10
    assert error(more, LABELS, matching) == 0.5
    fewer = LABELS // 2
    assert error(fewer, LABELS, fit_matching(fewer, LABELS, (5, 10))) == 0.5
    single = torch.zeros_like(LABELS)
    matching = fit_matching(single, LABELS, (10, 10))
    assert (matching == UNMATCHED).sum() == 9  # classes without images are unmatched
    assert error(single, LABELS, matching) == pytest.approx(0.9)


def test_the_code_whose_width_is_nearest_to_the_number_of_labels_is_matched() -> None:
    noise = (NoiseConfig(dim=2),)
    assert matched_code(LatentSpec(noise, (10, 10), 0), 10) == "categorical_0"
    assert matched_code(LatentSpec(noise, (2, 10), 0), 10) == "categorical_1"
    assert matched_code(LatentSpec(noise, (2, 10), 0), 3) == "categorical_0"
    assert matched_code(LatentSpec(noise, (), 3), 10) is None


def test_nmi_and_ari_are_1_for_permuted_classes_0_for_one_class_and_absent_without_scikit_learn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("sklearn")
    assert agreement(PERMUTED, LABELS) == pytest.approx({"purity": 1, "nmi": 1, "ari": 1})
    assert agreement(torch.zeros_like(LABELS), LABELS) == pytest.approx({"purity": 0.1, "nmi": 0, "ari": 0})
    assert 0.8 < agreement(merged_and_split(), LABELS)["nmi"] < 1
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    assert agreement(PERMUTED, LABELS) == {"purity": 1}


def posterior(logits: Tensor) -> CodePosterior:
    empty = logits.new_empty(len(logits), 0)
    return CodePosterior((logits.double(),), empty, empty)


def test_the_bound_is_ln_k_for_a_perfect_q_0_for_a_uniform_one_and_negative_for_a_wrong_one() -> None:
    spec = LatentSpec((NoiseConfig(dim=2),), (10,), 0)
    codes = Codes(LABELS[:, None], torch.empty(1000, 0))
    certain = torch.nn.functional.one_hot(LABELS, 10) * 200.0
    assert bounds(posterior(certain), codes, spec)["categorical_0"] == pytest.approx(math.log(10))
    assert bounds(posterior(torch.zeros(1000, 10)), codes, spec)["categorical_0"] == pytest.approx(0, abs=1e-12)
    assert bounds(posterior(certain.roll(1, 0)), codes, spec)["categorical_0"] < math.log(10) - 1


def test_a_continuous_code_predicted_up_to_gaussian_noise_has_the_gaussian_bound() -> None:
    spec = LatentSpec((NoiseConfig(dim=2),), (), 1)
    values = torch.linspace(-1, 1, 1001).double()[:, None]
    known = CodePosterior((), values, torch.full_like(values, 2 * math.log(0.1)))
    expected = math.log(2) - 0.5 * math.log(2 * math.pi) - math.log(0.1)  # H(c) + E[log N(c; c, 0.1)]
    got = bounds(known, Codes(torch.empty(1001, 0, dtype=torch.int64), values), spec)["continuous_0"]
    assert got == pytest.approx(expected)


def test_the_usage_entropy_is_ln_of_the_number_of_used_classes() -> None:
    even = torch.nn.functional.one_hot(LABELS, 10) * 200.0
    assert entropy_of_mean(even.double()) == pytest.approx(math.log(10))
    assert entropy_of_mean(even[LABELS != 9].double()) == pytest.approx(math.log(9))
    assert entropy_of_mean(even[:1].expand(50, 10).double()) == pytest.approx(0, abs=1e-12)


def test_the_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    correct = torch.arange(100) < 80
    assert expected_calibration_error(torch.full((100,), 0.8), correct) == pytest.approx(0, abs=1e-6)
    assert expected_calibration_error(torch.full((100,), 1.0), correct) == pytest.approx(0.2)
    assert expected_calibration_error(torch.ones(100), torch.zeros(100, dtype=torch.bool)) == 1
    # two bins, overconfident by 0.1 and underconfident by 0.2, which do not cancel
    confidence = torch.cat([torch.full((50,), 0.9), torch.full((50,), 0.3)])
    correct = torch.cat([torch.arange(50) < 40, torch.arange(50) < 25])
    assert expected_calibration_error(confidence, correct) == pytest.approx(0.5 * 0.1 + 0.5 * 0.2)


def test_the_mean_entropy_is_ln_k_for_uniform_and_0_for_certain_predictions() -> None:
    assert mean_entropy(torch.zeros(5, 10).double()) == pytest.approx(math.log(10))
    assert mean_entropy(torch.eye(10).double() * 500) == pytest.approx(0, abs=1e-12)


def test_k_means_finds_well_separated_groups() -> None:
    corners = torch.tensor([[0, 0], [0, 200], [200, 0], [200, 200]])
    jitter = Stream(0, "jitter").integers(torch.arange(400), 2, below=20)
    group = torch.arange(400) % 4
    source = ArraySource((corners[group] + jitter).to(torch.uint8)[:, None, None])  # two pixels an image
    train, test = by_k_means(source, source, 4)
    assert torch.equal(train, test)
    assert error(test, group, fit_matching(train, group, (4, 4))) == 0


def component_controls(train: Tensor, test: Tensor, labels: Tensor, classes: int) -> dict[str, tuple[Tensor, Tensor]]:
    with Group(ONE_PROCESS, 1, ProcessesConfig()) as group:
        return on_components(lambda: (train, test), labels, classes, group)


@pytest.mark.filterwarnings("ignore:Graph is not fully connected")
def test_spectral_clustering_separates_two_rings_which_k_means_does_not() -> None:
    pytest.importorskip("sklearn")
    ring, angle = torch.arange(600) % 2, torch.arange(600) * 0.7
    radius = 1 + 2 * ring + 0.1 * Stream(0, "radius").normal(torch.arange(600), 1)[:, 0]
    points = radius[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)
    train, test, labels = points[:400], points[400:], (ring[:400], ring[400:])
    found = [torch.from_numpy(each).long() for each in by_spectral_clustering(train.numpy(), test.numpy(), 2)]
    assert scored((found[0], found[1]), labels, 2)["code_error"] == 0
    assert error(found[0], labels[0], fit_matching(found[0], labels[0], (2, 2))) == 0
    on_rings = component_controls(train, test, labels[0], 2)
    assert scored(on_rings["k-means on deskewed components"], labels, 2)["code_error"] > 0.3
    assert scored(on_rings["spectral clustering of deskewed components"], labels, 2)["code_error"] == 0


@pytest.mark.filterwarnings("ignore:Graph is not fully connected", "ignore:Exited")
def test_controls_on_components_find_groups_and_need_labels_only_where_they_say_so() -> None:
    """Four groups in two dimensions, one of them long and thin: all five controls separate them."""
    pytest.importorskip("sklearn")
    group, noise = torch.arange(800) % 4, Stream(0, "noise").normal(torch.arange(800), 2)
    centres = torch.tensor([[0.0, 0.0], [0.0, 20.0], [20.0, 0.0], [20.0, 20.0]])
    points = centres[group] + noise * torch.tensor([2.0, 0.5])
    train, test = points[:400], points[400:]
    found = component_controls(train, test, group[:400], 4)
    assert [name for name in found if "with labels" not in name] == [
        "k-means on deskewed components",
        "Gaussian mixture on deskewed components",
        "spectral clustering of deskewed components",
    ]
    assert len(found) == 5
    for predicted in found.values():
        assert scored(predicted, (group[:400], group[400:]), 4)["code_error"] == 0
    relabelled = component_controls(train, test, group[:400].roll(1), 4)
    for name in found:
        same = torch.equal(found[name][1], relabelled[name][1])
        assert same == ("with labels" not in name), name


def test_components_are_those_that_neighbours_compare() -> None:
    reals = Reals.open(DataConfig(), most_train=300, most_test=20)
    train, test = components(reals)
    distances = torch.cdist(train, train).fill_diagonal_(torch.inf)
    nearest = distances.topk(4, largest=False).indices
    assert (nearest == nearest_neighbours(reals.train, 4)).double().mean() > 0.99
    again, _ = components(Reals(reals.data, reals.train, reals.train, None, None))
    assert test.shape == (20, train.shape[1])
    assert torch.allclose(again, train, atol=1e-4)


def test_labels_are_in_the_order_of_the_images_and_a_folder_without_subfolders_has_none(tmp_path: Path) -> None:
    test, (images, digits) = open_labelled(DataConfig(image_size=32), "test"), mnist_mini.load("test")
    assert test.labels.tolist() == digits.tolist()
    assert test.source.read(torch.tensor([0])).shape == (1, 1, 32, 32)
    native = open_labelled(DataConfig(), "test").source
    assert torch.equal(native.read(torch.arange(2000))[:, 0], torch.from_numpy(images))
    Image.new("L", (28, 28)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"data\.name = folder has no labels; use one of mnist-mini, mnist"):
        open_labelled(DataConfig(name="folder", root=str(tmp_path)), "test")


def test_full_mnist_has_its_labels(full_mnist: str) -> None:
    train = open_labelled(DataConfig(name="mnist", root=full_mnist), "train")
    assert train.labels.dtype == torch.int64
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]


def test_few_images_are_evenly_spaced_in_the_set() -> None:
    few = Reals.open(DataConfig(), most_train=50, most_test=20)
    assert len(few.train) == 50
    assert few.train_labels is not None
    every, spaced = open_labelled(DataConfig(), "train"), torch.arange(50) * 200
    assert torch.equal(few.train_labels, every.labels[spaced])
    assert torch.equal(few.train.read(torch.arange(50)), every.source.read(spaced))


def test_a_row_of_metrics_jsonl_has_floats_only() -> None:
    metrics = {"code_error": 0.5, "usage": {"a": [0.5]}, "images": 3, "mutual_information": {"a": 1.0, "b": 2.0}}
    assert flat(metrics) == {"code_error": 0.5, "mutual_information/a": 1.0, "mutual_information/b": 2.0}


def test_evaluation_during_training_does_not_change_the_networks() -> None:
    config = tiny("x", "networks.norm_D=spectral")
    networks = build_networks(config)
    networks.Q.eval()
    before = {name: tensors_of(network) for name, network in networks.named().items()}
    with Group(ONE_PROCESS, 1, config.processes) as group:
        metrics = evaluate_networks(networks, config, group)
    assert metrics.keys() >= {"code_error", "purity", "mutual_information/categorical_0", "usage_entropy/categorical_1"}
    assert all(isinstance(value, float) for value in metrics.values())
    assert networks.FE.training
    assert all(module.training for module in networks.FE.modules())
    assert not networks.Q.training
    for name, network in networks.named().items():
        for key, tensor in network.state_dict().items():
            assert torch.equal(tensor, before[name][key]), f"{name}.{key}"


def test_without_labels_only_metrics_that_need_none_are_computed(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("L", (28, 28), 80 * number).save(tmp_path / f"{number}.png")
    config = tiny("x", f"data={{name: folder, root: '{tmp_path}'}}")
    with Group(ONE_PROCESS, 1, config.processes) as group:
        metrics = evaluate_networks(build_networks(config), config, group)
    assert metrics.keys() >= {"mutual_information/continuous_0", "usage_entropy/categorical_0"}
    assert not metrics.keys() & {"code_error", "purity", "nmi", "calibration_error"}
