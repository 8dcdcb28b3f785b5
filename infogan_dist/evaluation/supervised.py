"""A ceiling for the code: FE and Q of a run's config, trained from initial weights with the labels of train images.

It is a control. It starts from no trained weight, is not saved, and no training of an InfoGAN uses it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR

from infogan_dist.config.model import LatentsConfig
from infogan_dist.config.schema import Config
from infogan_dist.data.augmentation import Augmentation, draws_at
from infogan_dist.data.sources import ImageSource, scaled
from infogan_dist.distributed.group import Group
from infogan_dist.evaluation.controls import row
from infogan_dist.evaluation.metric_values import Metrics
from infogan_dist.evaluation.reals import Reals
from infogan_dist.networks import build_networks
from infogan_dist.randomness import DataOrder, Stream
from infogan_dist.sampling.batches import batches_of

IMAGES = 200_000  # to train on: about as many as the recipes for digits
BATCH = 128
RATE = 1e-3  # Adam's learning rate at first; it falls linearly to 0


def supervised_control(config: Config, name: str, reals: Reals, group: Group) -> list[Metrics]:
    """The row of FE and Q of the run `name` trained with labels; none without labels. Every rank calls it, and trains the same."""
    labels = reals.train_labels
    if labels is None or reals.test_labels is None:
        return []
    network = trained(config, reals.train, labels, reals.classes, group)
    predicted = group.on_main(lambda: classes_of(network, reals.test, group.device))
    return [row(f"FE and Q ({name}) trained with labels", (labels, predicted), reals)]


def trained(config: Config, source: ImageSource, labels: Tensor, classes: int, group: Group) -> nn.Module:
    """FE and Q as one network that maps images [B, C, H, W] in [-1, 1] to logits [B, classes], in evaluation mode, float32.

    It is trained on IMAGES images of `source`, augmented as `config` says. Q has one code, and the loss is its cross-entropy with the
    labels, int64 [N]. The shares of cuts and pastes fall with the learning rate.
    """
    one_code = LatentsConfig(noise=config.latents.noise, categorical=(classes,))
    networks = build_networks(config.model_copy(update={"latents": one_code}))
    device = group.device
    network = nn.Sequential(networks.FE, networks.Q).to(device).train()
    steps = -(-IMAGES // BATCH)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    schedule = LambdaLR(optimizer, lambda step: 1 - step / steps)
    order, stream = DataOrder(config.seed, len(source)), Stream(config.seed, "supervised control")
    for step in range(steps):
        group.heartbeat("training FE and Q with labels")
        positions = torch.arange(step * BATCH, (step + 1) * BATCH)
        chosen, strength = order.at(positions), torch.tensor(1 - step / steps, device=device)
        draws = draws_at(stream, positions.to(device), config.augmentation)
        images = Augmentation(config.augmentation, draws, strength)(scaled(source.read(chosen)).to(device))
        optimizer.zero_grad()
        cross_entropy(network(images), labels[chosen].to(device)).backward()
        optimizer.step()
        schedule.step()
    return network.eval()


@torch.no_grad()
def classes_of(network: nn.Module, source: ImageSource, device: torch.device) -> Tensor:
    """The class with the largest logit for each image of a source, int64 [N] on the CPU."""
    read = [network(scaled(source.read(ours)).to(device)).argmax(1).cpu() for ours in batches_of(len(source))]
    return torch.cat(read)[: len(source)]
