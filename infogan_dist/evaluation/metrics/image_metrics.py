"""Metrics of G's images by the predictions of the reference classifier, for handwritten digits only."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from infogan_dist.data.mnist_variants import base_of
from infogan_dist.data.sources import ImageSource, scaled
from infogan_dist.distributed.group import Group
from infogan_dist.evaluation import reference_classifier
from infogan_dist.evaluation.evaluated_model import EvaluatedModel
from infogan_dist.evaluation.labels import open_labelled
from infogan_dist.evaluation.metric_values import Metrics
from infogan_dist.evaluation.metrics.code_error import match
from infogan_dist.evaluation.metrics.frechet import frechet_distance, kernel_distance
from infogan_dist.evaluation.metrics.modes import class_shares, mode_coverage, reverse_kl
from infogan_dist.evaluation.metrics.neighbourhoods import neighbourhood_scores
from infogan_dist.evaluation.metrics.non_digit import least_confidence, non_digit_rate
from infogan_dist.evaluation.metrics.traversal import traversal_consistency
from infogan_dist.evaluation.reals import Reals
from infogan_dist.evaluation.reference_classifier import DIGITS, ClassifierOutput, ReferenceClassifier, split_output
from infogan_dist.randomness import Stream
from infogan_dist.registry.data_sets import DATA_SETS
from infogan_dist.sampling.batches import batches_of
from infogan_dist.sampling.grids import to_uint8


@dataclass(frozen=True)
class ClassifierOutputs:
    """A classifier's outputs for G's images, for all test digits, and for the train digits that the distances use."""

    fakes: ClassifierOutput
    test: ClassifierOutput
    train: ClassifierOutput


def image_metrics(model: EvaluatedModel, reals: Reals, group: Group) -> Metrics:
    """`traversal_consistency`, the metrics of `scores`, those of `random_features`, and the classifier's accuracy and sha256."""
    of_digits = DATA_SETS[reals.data.name].handwritten_digits
    if not of_digits or reals.train_labels is None or reals.test_labels is None:
        return {}
    file = group.on_main(lambda: _classifier_file(reals))
    outputs, of_random = (
        _classifier_outputs(network.to(group.device), model, reals, group)
        for network in (reference_classifier.classifier_from(file), reference_classifier.untrained())
    )
    accuracy = (outputs.test.digits == reals.test_labels).double().mean().item()
    metrics = _consistency(outputs, model, reals, group)
    # on rank zero alone: ranks that compare all pairs at once compete for the same cores
    metrics |= group.on_main(lambda: scores(outputs))
    metrics["random_features"] = group.on_main(lambda: random_features(of_random))
    return metrics | {"classifier_accuracy": accuracy, "classifier_sha256": reference_classifier.sha256(file)}


def scores(outputs: ClassifierOutputs) -> Metrics:
    """The metrics that need only the classifier's outputs. G's images are compared with test digits. A floor or ceiling is the
    value of train digits in place of G's images: a G that copied train digits would reach it."""
    fake_shares, real_shares = (class_shares(each.digits, DIGITS) for each in (outputs.fakes, outputs.test))
    fakes, test, train = _features(outputs)
    return {
        "non_digit_rate": non_digit_rate(outputs.fakes.confidences, least_confidence(outputs.test.confidences)),
        "mode_coverage": mode_coverage(fake_shares, real_shares),
        "reverse_kl": reverse_kl(fake_shares, real_shares),
        "kernel": kernel_distance(fakes, test),
        "kernel_floor": kernel_distance(train, test),
        **compared_sets(fakes, test, train),
    }


def random_features(outputs: ClassifierOutputs) -> Metrics:
    """`compared_sets` in features of an untrained network, which no label shaped (Naeem et al. 2020, section 4.2)."""
    return compared_sets(*_features(outputs))


def compared_sets(fakes: Tensor, test: Tensor, train: Tensor) -> Metrics:
    """`frechet`, its `frechet_floor`, the `neighbourhood_scores` and their `_ceiling`s, of features [N, F] each."""
    ceilings = neighbourhood_scores(test, train)
    return {
        "frechet": frechet_distance(fakes, test),
        "frechet_floor": frechet_distance(train, test),
        **neighbourhood_scores(test, fakes),
        **{f"{name}_ceiling": ceiling for name, ceiling in ceilings.items()},
    }


def _classifier_file(reals: Reals) -> bytes:
    data, source, labels = reals.data, reals.train, reals.train_labels
    if DATA_SETS[data.name].of_mnist:  # the classifier learns all digits, also those that are rare in the train images
        data = base_of(data)
        digits = open_labelled(data, "train")
        source, labels = digits.source, digits.labels
    assert labels is not None
    return reference_classifier.classifier_file(source.read(torch.arange(len(source))), labels, data.name)


def _classifier_outputs(
    classifier: ReferenceClassifier, model: EvaluatedModel, reals: Reals, group: Group
) -> ClassifierOutputs:
    """Predictions on every rank, on the CPU. Each rank computes a part of each set."""

    def classify(source: ImageSource, indexes: Tensor) -> ClassifierOutput:
        def classify_batch(ours: Tensor) -> Tensor:
            return _classify(classifier, scaled(source.read(indexes[ours])).to(group.device))

        return split_output(group.map_batches(batches_of(len(indexes)), classify_batch)[: len(indexes)].cpu())

    def fakes(ours: Tensor) -> Tensor:
        drawn = model.draw(model.spec.vector(model.latents(ours)))
        return _classify(classifier, scaled(to_uint8(drawn)))  # quantised to 256 greys, as reals are

    size = min(model.fresh, len(reals.test), len(reals.train))
    chosen = _stream().derived("train").permutation(0, len(reals.train))[:size]
    drawn = group.map_batches(batches_of(model.fresh), fakes)[: model.fresh].cpu()
    return ClassifierOutputs(
        split_output(drawn), classify(reals.test, torch.arange(len(reals.test))), classify(reals.train, chosen)
    )


def _consistency(outputs: ClassifierOutputs, model: EvaluatedModel, reals: Reals, group: Group) -> Metrics:
    matched = match(model, reals, group)
    if matched is None:
        return {}
    position = model.spec.categorical_names.index(matched.name)
    drawn_classes = model.latents(torch.arange(model.fresh)).codes.categorical[:, position]
    return {"traversal_consistency": traversal_consistency(outputs.fakes.digits, drawn_classes, matched.matching)}


@torch.no_grad()
def _classify(classifier: ReferenceClassifier, images: Tensor) -> Tensor:
    output: Tensor = classifier(images)
    return output


def _features(outputs: ClassifierOutputs) -> list[Tensor]:
    """The features of as many fakes, test digits and train digits: the distances depend on the sizes."""
    size = len(outputs.train.features)
    return [each.features[:size] for each in (outputs.fakes, _shuffled(outputs.test), outputs.train)]


def _shuffled(outputs: ClassifierOutput) -> ClassifierOutput:
    """In random order: test sets may be sorted by writer or digit, so their first images are no random sample."""
    order = _stream().derived("test").permutation(0, len(outputs.logits))
    return ClassifierOutput(outputs.features[order], outputs.logits[order])


def _stream() -> Stream:
    """The same stream for every run, so that every model is compared with the same reals."""
    return Stream(0, "image figures")
