"""Schedules as functions of the images seen. They have no state to save."""

from __future__ import annotations

import math

from infogan_dist.config.schema import Config


def annealing(config: Config, images_seen: int) -> float:
    """The factor of learning rates, cuts, pastes and neighbour positives: 1, then decaying to `schedule.final`."""
    return 1.0 - (1.0 - config.schedule.final) * _annealed(config, images_seen)


def penalty_share(config: Config, images_seen: int) -> float:
    """The factor of gradient penalties: 1, then decaying to `schedule.penalty_final`."""
    return 1.0 - (1.0 - config.schedule.penalty_final) * _annealed(config, images_seen)


def beta2(config: Config, first: float, images_seen: int) -> float:
    """Adam's beta2 of an optimizer in the step after `images_seen` images: `first`, then moving to `schedule.beta2_final`."""
    final = config.schedule.beta2_final
    return first if final is None else first + (final - first) * _annealed(config, images_seen)


def learning_rate_share(config: Config, images_seen: int) -> float:
    """The factor of learning rates in the step after `images_seen` images: warm-up times annealing."""
    warm_up = _images(config, config.schedule.warm_up)
    warmed = min(1.0, (images_seen + config.train.global_batch) / warm_up) if warm_up else 1.0
    return warmed * annealing(config, images_seen)


def clustering_weight(config: Config, images_seen: int, started: int | None = None) -> float:
    """λ of the clustering term: 0 until clustering starts, then rising linearly to `objective.lambda_clustering`.

    With `objective.clustering_after` it has `started` at this number of images; None if it has not.
    """
    start = started if config.objective.clustering_after else earliest_clustering(config)
    if start is None:
        return 0.0
    return config.objective.lambda_clustering * _rise(images_seen, start, start + clustering_length(config))


def earliest_clustering(config: Config) -> int:
    """The images seen at `objective.clustering_from`."""
    return _images(config, config.objective.clustering_from)


def clustering_length(config: Config) -> int:
    """The images in which clustering reaches its weight."""
    return _images(config, config.objective.clustering_in_full) - earliest_clustering(config)


def prior_rate(config: Config, images_seen: int) -> float:
    """How far a learned class prior moves to Q's mean prediction on the reals in the step after `images_seen` images, from 0 to 1."""
    latents = config.latents
    if latents.prior == "uniform" or images_seen < _images(config, latents.prior_from):
        return 0.0
    return float(1 - 0.5 ** (config.train.global_batch / latents.prior_half_life_images))


def instance_noise(config: Config, images_seen: int) -> float:
    """The standard deviation of the noise that D sees on images: falling linearly from `objective.instance_noise` to 0."""
    objective = config.objective
    return objective.instance_noise * (1 - _rise(images_seen, 0, _images(config, objective.instance_noise_until)))


def changes_over_run(config: Config) -> bool:
    """Whether anything in the run depends on its planned length."""
    schedule, objective = config.schedule, config.objective
    changes_rates = schedule.kind != "constant" or schedule.warm_up > 0
    starts_or_ends = (
        objective.lambda_clustering > 0 or objective.instance_noise > 0 or config.latents.prior == "learned"
    )
    return changes_rates or starts_or_ends


def length_mismatch(config: Config) -> str | None:
    """A message if the run ends before or after the images that its schedules refer to, else None."""
    last, planned, train = config.train.steps * config.train.global_batch, config.run_images, config.train
    if last == planned or not changes_over_run(config):
        return None
    ends = f"the run ends at {last:,} images (train.steps = {train.steps} of train.global_batch = {train.global_batch})"
    if last < planned:
        steps = -(-planned // train.global_batch)
        return f"warning: {ends}, but its schedules refer to schedule.images = {planned:,}; set train.steps={steps}"
    return f"{ends}; its schedules end at schedule.images = {planned:,} and stay at their last values"


def _annealed(config: Config, images_seen: int) -> float:
    """How much of the decay is over, from 0 to 1."""
    schedule = config.schedule
    if schedule.kind == "constant":
        return 0.0
    progress = _rise(images_seen, _images(config, schedule.anneal_from), _images(config, schedule.anneal_until))
    return (1 - math.cos(math.pi * progress)) / 2 if schedule.kind == "cosine" else progress


def _images(config: Config, fraction: float) -> int:
    return round(fraction * config.run_images)


def _rise(images_seen: int, start: int, end: int) -> float:
    """0 up to `start`, 1 from `end`, linear between. A step if they are equal."""
    if images_seen >= end:
        return 1.0
    return max(0, images_seen - start) / max(1, end - start)
