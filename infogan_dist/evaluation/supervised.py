"""Ceilings for the codes: FE and Q of a run's config, trained from initial weights with labels or known factors of train images.

They are controls. They start from no trained weight, are not saved, and no training of an InfoGAN uses them.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from infogan_dist.config.augmentation import AUGMENTATIONS, AugmentationConfig
from infogan_dist.config.model import LatentsConfig
from infogan_dist.config.schema import Config
from infogan_dist.data.augmentation import Augmentation, draws_at
from infogan_dist.data.sources import ImageSource, scaled
from infogan_dist.distributed.group import Group
from infogan_dist.evaluation.controls import row
from infogan_dist.evaluation.labels import known_factors
from infogan_dist.evaluation.metric_values import Metrics
from infogan_dist.evaluation.metrics.disentanglement import Variables
from infogan_dist.evaluation.metrics.factor_scores import read_codes, scored
from infogan_dist.evaluation.reals import Reals
from infogan_dist.latents import Codes, LatentSpec
from infogan_dist.losses import CodePosterior, negative_log_likelihoods
from infogan_dist.networks import build_networks
from infogan_dist.randomness import DataOrder, Stream
from infogan_dist.sampling.batches import batches_of

IMAGES = 200_000  # to train on: about as many as the recipes for digits
BATCH = 128
NO_AUGMENTATION = AugmentationConfig(preset="none", **AUGMENTATIONS["none"])
RATE = 1e-3  # Adam's learning rate at first; it falls linearly to 0


def supervised_control(config: Config, name: str, reals: Reals, group: Group) -> list[Metrics]:
    """The row of FE and Q of the run `name` trained with labels; none without labels. Every rank calls it, and trains the same."""
    labels = reals.train_labels
    if labels is None or reals.test_labels is None:
        return []
    changed = supervised_config(config, (reals.classes,), 0)
    network = trained(changed, reals.train, Codes(labels[:, None], torch.zeros(len(labels), 0)), group)
    predicted = group.on_main(lambda: posterior_of(network, changed, reals.test, group.device).logits[0].argmax(1))
    return [row(f"FE and Q ({name}) trained with labels", (labels, predicted), reals)]


def factor_ceiling(config: Config, reals: Reals, group: Group) -> Metrics:
    """`factor_ceiling`: the `factor_scores` of FE and Q with one code for each factor, trained with the factors of train images, without
    augmentation. Empty where the data has no known factors. Every rank calls it, and trains the same."""
    factors, train_factors = reals.test_factors, known_factors(reals.data, "train", torch.arange(len(reals.train)))
    if factors is None or train_factors is None:
        return {}
    network, changed = trained_with_factors(config, reals.train, train_factors.variables, group)
    spec = LatentSpec.from_config(changed.latents)

    def ceiling() -> Metrics:
        read = read_codes(posterior_of(network, changed, reals.test, group.device), spec)
        return {"factor_ceiling": scored(read, factors.variables, spec.code_names, factors.names)["factor_scores"]}

    return group.on_main(ceiling)


def trained_with_factors(
    config: Config, source: ImageSource, factors: Variables, group: Group
) -> tuple[nn.Module, Config]:
    """FE and Q with one code for each factor, as `trained` returns them, and their config. Trained without augmentation on `source`, whose
    `factors` are known."""
    codes = as_codes(factors)
    widths = tuple(int(each.max()) + 1 for each in codes.categorical.T)
    changed = supervised_config(config, widths, codes.continuous.shape[1])
    changed = changed.model_copy(update={"augmentation": NO_AUGMENTATION})
    return trained(changed, source, codes, group), changed


def as_codes(factors: Variables) -> Codes:
    """Discrete factors as classes, int64 [N, n]; the others scaled to -1..1, [N, m]."""
    discrete = torch.tensor(factors.discrete)
    values = factors.values[:, ~discrete].double()
    low, high = values.min(0).values, values.max(0).values
    return Codes(factors.values[:, discrete].long(), 2 * (values - low) / (high - low).clamp_min(1e-12) - 1)


def supervised_config(config: Config, categorical: tuple[int, ...], continuous: int) -> Config:
    """The config with these codes, continuous ones of variance 1: their loss is half the squared error."""
    latents = LatentsConfig(noise=config.latents.noise, categorical=categorical, continuous=continuous)
    objective = config.objective.model_copy(update={"continuous_likelihood": "fixed"})
    return config.model_copy(update={"latents": latents, "objective": objective})


def trained(config: Config, source: ImageSource, targets: Codes, group: Group) -> nn.Module:
    """FE and Q as one network that maps images [B, C, H, W] in [-1, 1] to Q's output, in evaluation mode, float32.

    It is trained on IMAGES images of `source`, augmented as `config` says, with the negative log-likelihood of the codes of `config`, whose
    `targets` are known for every image. The shares of cuts and pastes fall with the learning rate.
    """
    networks, spec, device = build_networks(config), LatentSpec.from_config(config.latents), group.device
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
        codes = Codes(targets.categorical[chosen].to(device), targets.continuous[chosen].to(device))
        posterior = CodePosterior.from_output(network(images), spec, config.objective)
        optimizer.zero_grad()
        torch.stack(list(negative_log_likelihoods(posterior, codes, spec).values())).sum().backward()
        optimizer.step()
        schedule.step()
    return network.eval()


@torch.no_grad()
def posterior_of(network: nn.Module, config: Config, source: ImageSource, device: torch.device) -> CodePosterior:
    """What the network predicts for each image of a source, float64 on the CPU."""
    read = [network(scaled(source.read(ours)).to(device)).cpu().double() for ours in batches_of(len(source))]
    output = torch.cat(read)[: len(source)]
    return CodePosterior.from_output(output, LatentSpec.from_config(config.latents), config.objective)
