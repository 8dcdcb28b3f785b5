from __future__ import annotations

import pytest

from infogan_dist.config.schema import ObjectiveConfig, ScheduleConfig
from infogan_dist.training.schedule import annealing, clustering_weight


def test_annealing_holds_then_falls_and_stays() -> None:
    schedule = ScheduleConfig(anneal_from=100, anneal_until=300, final=0.2)
    left = [annealing(schedule, images) for images in (0, 100, 200, 300, 1000)]
    assert left == pytest.approx([1, 1, 0.6, 0.2, 0.2])


def test_without_a_schedule_nothing_falls() -> None:
    assert annealing(ScheduleConfig(), 10**9) == 1


def test_clustering_sets_in_and_rises() -> None:
    objective = ObjectiveConfig(
        information_trains="trunk", lambda_clustering=2, clustering_from=100, clustering_in_full=200
    )
    assert [clustering_weight(objective, images) for images in (0, 99, 150, 200, 300)] == pytest.approx([0, 0, 1, 2, 2])
    at_once = objective.model_copy(update={"clustering_from": 100, "clustering_in_full": 100})
    assert [clustering_weight(at_once, images) for images in (99, 100)] == [0, 2]
    assert clustering_weight(ObjectiveConfig(), 10**9) == 0
