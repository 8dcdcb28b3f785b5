"""Modes and reverse KL of stacked MNIST (Metz et al. 2017, section 3.3.1; Lin et al. 2018, section 4.2).

A mode is a triple of digits: those that the reference classifier predicts on the red, green and blue channel of an image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from infogan_dist.data.mnist_variants import base_of
from infogan_dist.data.sources import scaled
from infogan_dist.distributed.group import Group
from infogan_dist.evaluation import reference_classifier
from infogan_dist.evaluation.evaluated_model import EvaluatedModel
from infogan_dist.evaluation.labels import open_labelled
from infogan_dist.evaluation.metric_values import Metrics
from infogan_dist.evaluation.metrics.modes import class_shares, reverse_kl
from infogan_dist.evaluation.reals import Reals
from infogan_dist.evaluation.reference_classifier import DIGITS, split_output
from infogan_dist.randomness import Stream
from infogan_dist.sampling.batches import batches_of
from infogan_dist.sampling.grids import to_uint8

IMAGES = 26_000  # of G and of the reals (Lin et al. 2018). Both metrics depend on it: 26 a mode
MODES = DIGITS**3


def stacked_modes(model: EvaluatedModel, reals: Reals, group: Group) -> Metrics:
    """`stacked_modes`: the values of `mode_scores`; `classifier_accuracy` on MNIST's test digits; `classifier_sha256`."""
    if reals.data.name != "stacked-mnist":
        return {}
    base = base_of(reals.data)
    train, test = group.on_all(lambda: [open_labelled(base, split) for split in ("train", "test")])
    images = train.source.read(torch.arange(len(train.source)))
    file = group.on_main(lambda: reference_classifier.classifier_file(images, train.labels, base.name))
    classifier = reference_classifier.classifier_from(file).to(group.device)

    @torch.no_grad()
    def digits_in(images: Tensor) -> Tensor:
        """The digit in each channel, int64 [B, C], of uint8 images [B, C, H, W]."""
        channels = scaled(images.flatten(0, 1)[:, None]).to(group.device)
        return split_output(classifier(channels)).digits.view(images.shape[:2])

    def fakes(ours: Tensor) -> Tensor:
        return digits_in(to_uint8(model.draw(model.spec.vector(model.latents(ours)))))

    chosen = Stream(0, "stacked modes").permutation(0, len(reals.train))[:IMAGES]
    drawn = group.map_batches(batches_of(IMAGES), fakes)[:IMAGES].cpu()
    real = group.map_batches(batches_of(len(chosen)), lambda ours: digits_in(reals.train.read(chosen[ours])))
    read = group.map_batches(batches_of(len(test.labels)), lambda ours: digits_in(test.source.read(ours)))
    right = read[: len(test.labels), 0].cpu() == test.labels
    return {
        "stacked_modes": mode_scores(drawn, real[: len(chosen)].cpu(), class_shares(train.labels, DIGITS)),
        "classifier_accuracy": right.double().mean().item(),
        "classifier_sha256": reference_classifier.sha256(file),
    }


def mode_scores(fakes: Tensor, reals: Tensor, digit_shares: Tensor) -> Metrics:
    """`modes` and `reverse_kl` of G's images, and `modes_of_reals` and `reverse_kl_floor`: the same of as many train images.

    fakes, reals: the digits of the three channels, int64 [N, 3]. digit_shares: of the digits that are stacked, float64 [10]. A mode
    counts from its first image. `reverse_kl` is KL(fakes || reals) in nats from the product of the three digit shares, which is the
    distribution of the reals, because the digits of an image are independent.
    """
    expected = torch.einsum("i,j,k->ijk", digit_shares, digit_shares, digit_shares).flatten()
    fake_shares, real_shares = (class_shares(mode_numbers(read), MODES) for read in (fakes, reals))
    return {
        "modes": int((fake_shares > 0).sum()),
        "modes_of_reals": int((real_shares > 0).sum()),
        "reverse_kl": reverse_kl(fake_shares, expected),
        "reverse_kl_floor": reverse_kl(real_shares, expected),
        "images": len(fakes),
    }


def mode_numbers(digits: Tensor) -> Tensor:
    """Numbers below `MODES`, int64 [N], of digits int64 [N, 3]."""
    return (digits * torch.tensor([DIGITS**2, DIGITS, 1])).sum(1)
