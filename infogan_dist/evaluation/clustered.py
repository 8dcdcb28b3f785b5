"""A control without a GAN: FE and Q of a run's config, from initial weights, cluster unlabelled train images (IIC, Ji et al. 2019).

As theirs, Q has several sub-heads and an over-clustering head, and the sub-head with the lowest loss counts. Augmentations and
neighbour positives are the run's; the rest was tuned on held-out train images of mnist-mini (configs/README.md).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from infogan_dist.config.model import LatentsConfig
from infogan_dist.config.schema import Config
from infogan_dist.data.augmentation import Augmentation, draws_at
from infogan_dist.data.neighbours import nearest_neighbours
from infogan_dist.data.sources import ImageSource, scaled
from infogan_dist.data.stream import ImageStream
from infogan_dist.distributed.group import Group
from infogan_dist.evaluation.controls import row
from infogan_dist.evaluation.metric_values import Metrics
from infogan_dist.evaluation.reals import Reals
from infogan_dist.evaluation.supervised import posterior_of
from infogan_dist.latents import LatentSpec
from infogan_dist.losses import CodePosterior, clustering_losses
from infogan_dist.networks import build_networks
from infogan_dist.randomness import Stream

IMAGES = 800_000  # to train on; the augmentations make each visit of an image a new one
BATCH = 96
RATE = 1e-3  # Adam's learning rate at first; it falls linearly to 0
ENTROPY_WEIGHT = 1.0
SUB_HEADS = 5
OVER_CLUSTERS = 50  # classes of the over-clustering head
COMPARED = 0.1  # the last part of training, in which the losses of the sub-heads are compared


def clustering_control(config: Config, name: str, reals: Reals, group: Group) -> list[Metrics]:
    """The row of FE and Q of the run `name` trained by clustering alone, with the `clustering_loss` of the sub-head; none without labels,
    which only score it. Every rank calls it, and trains the same."""
    if reals.train_labels is None or reals.test_labels is None:
        return []
    changed = clustering_config(config, reals.classes)
    network, losses = trained(changed, reals.train, group)
    best = int(losses.argmin())

    def predicted() -> tuple[Tensor, Tensor]:
        train, test = (
            posterior_of(network, changed, source, group.device).logits[best].argmax(1)
            for source in (reals.train, reals.test)
        )
        return train, test

    scores = row(f"FE and Q ({name}) trained by clustering alone, no GAN", group.on_main(predicted), reals)
    return [scores | {"clustering_loss": losses[best].item()}]


def clustering_config(config: Config, classes: int) -> Config:
    """The config with a categorical code for each sub-head, and one for the over-clustering head."""
    heads = (classes,) * SUB_HEADS + (OVER_CLUSTERS,)
    latents = LatentsConfig(noise=config.latents.noise, categorical=heads, continuous=0)
    return config.model_copy(update={"latents": latents})


def trained(config: Config, source: ImageSource, group: Group) -> tuple[nn.Module, Tensor]:
    """FE and Q as one network that maps images [B, C, H, W] in [-1, 1] to Q's output, in evaluation mode, float32; and the mean loss of
    each sub-head, [SUB_HEADS] on the CPU, in the last part of training.

    It is trained on IMAGES images of `source` with the mean loss of the sub-heads plus the loss of the over-clustering head. The shares of
    cuts, pastes and neighbour positives fall with the learning rate.
    """
    networks, spec, device = build_networks(config), LatentSpec.from_config(config.latents), group.device
    network = nn.Sequential(networks.FE, networks.Q).to(device).train()
    steps, objective = -(-IMAGES // BATCH), config.objective
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    schedule = LambdaLR(optimizer, lambda step: 1 - step / steps)
    images, stream = ImageStream(len(source), config.seed), Stream(config.seed, "clustering control")
    group.heartbeat("finding the nearest neighbours")
    neighbours = nearest_neighbours(source) if objective.neighbour_positives else torch.empty(0)
    losses, compared = torch.zeros(SUB_HEADS, device=device), max(1, round(COMPARED * steps))
    for step in range(steps):
        group.heartbeat("training FE and Q by clustering")
        positions = torch.arange(step * BATCH, (step + 1) * BATCH)
        strength = 1 - step / steps
        indexes = images.positives_at(positions, objective.neighbour_positives * strength, lambda: neighbours)
        draws = draws_at(stream, positions.to(device), config.augmentation)
        augment = Augmentation(config.augmentation, draws, torch.tensor(strength, device=device))
        reals, positives = (scaled(source.read(each)).to(device) for each in (images.at(positions), indexes))
        of_reals, of_positives = (
            CodePosterior.from_output(network(each), spec, objective) for each in (reals, augment(positives))
        )
        *of_heads, over = clustering_losses(of_reals, of_positives, ENTROPY_WEIGHT)
        optimizer.zero_grad()
        (torch.stack(of_heads).mean() + over).backward()
        optimizer.step()
        schedule.step()
        if step >= steps - compared:
            losses += torch.stack(of_heads).detach() / compared
    return network.eval(), losses.cpu()
