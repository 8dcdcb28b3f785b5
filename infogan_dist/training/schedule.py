"""What changes while a run goes on, as functions of the images seen: no state, so a resumed run needs none."""

from __future__ import annotations

from infogan_dist.config.model import ObjectiveConfig, ScheduleConfig
from infogan_dist.config.schema import Config


def annealing(schedule: ScheduleConfig, images_seen: int) -> float:
    """What is left of the learning rates, cuts, pastes and neighbour pairs: 1, then falling linearly to `schedule.final`."""
    if not schedule.anneal_until:
        return 1.0
    fallen = risen(images_seen, schedule.anneal_from, schedule.anneal_until)
    return 1.0 - (1.0 - schedule.final) * fallen


def clustering_weight(objective: ObjectiveConfig, images_seen: int) -> float:
    """λ of the clustering term: 0 until it sets in, then rising linearly to `objective.lambda_clustering`."""
    share = risen(images_seen, objective.clustering_from, objective.clustering_in_full)
    return objective.lambda_clustering * share


def risen(images_seen: int, start: int, end: int) -> float:
    """0 up to `start`, 1 from `end` on, linear between; a step where these are one."""
    if images_seen >= end:
        return 1.0
    return max(0, images_seen - start) / max(1, end - start)


def unfinished(config: Config) -> str | None:
    """A warning where the run ends before what `schedule` and `clustering_from` plan in images seen; None where it does not."""
    schedule, objective, train = config.schedule, config.objective, config.train
    last = train.steps * train.global_batch
    planned = {"schedule.anneal_until": schedule.anneal_until}
    if objective.lambda_clustering:
        planned["objective.clustering_from"] = objective.clustering_from
        planned["objective.clustering_in_full"] = objective.clustering_in_full
    late = {key: images for key, images in planned.items() if images > last}
    if not late:
        return None
    keys = ", ".join(f"{key} = {images:,}" for key, images in late.items())
    steps = -(-max(late.values()) // train.global_batch)
    return (
        f"the run ends at {last:,} images (train.steps = {train.steps} of train.global_batch = {train.global_batch}), "
        f"before {keys}; set train.steps={steps} or lower {'it' if len(late) == 1 else 'them'}"
    )
