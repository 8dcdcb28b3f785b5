from __future__ import annotations

import pytest

from infogan_dist.config.model import ObjectiveConfig, ScheduleConfig
from infogan_dist.config.reading import load_config
from infogan_dist.training.schedule import annealing, clustering_weight, unfinished
from tests.conftest import ROOT


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


SHIPPED = sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_config_ends_after_its_schedule(name: str) -> None:
    assert unfinished(load_config(name)) is None


def test_a_smaller_batch_ends_before_the_schedule_and_both_numbers_are_named() -> None:
    late = unfinished(load_config("quickstart", ["train.global_batch=48"]))
    assert late is not None
    assert "ends at 90,000 images" in late
    assert "before schedule.anneal_until = 180,000" in late
    assert "set train.steps=3750 or lower it" in late
    assert unfinished(load_config("quickstart", ["train.global_batch=48", "train.steps=3750"])) is None
    assert unfinished(load_config("quickstart", ["train.global_batch=48", "train.steps=3749"])) is not None


@pytest.mark.parametrize(
    ("steps", "keys"),
    [
        (100, ["schedule.anneal_until", "objective.clustering_from", "objective.clustering_in_full"]),
        (200, ["schedule.anneal_until", "objective.clustering_in_full"]),
        (400, ["schedule.anneal_until"]),
    ],
)
def test_a_clustering_that_sets_in_too_late_is_named(steps: int, keys: list[str]) -> None:
    late = unfinished(load_config("quickstart", [f"train.steps={steps}"]))
    assert late is not None
    assert [key for key in ("schedule.anneal_until", *CLUSTERING) if key in late] == keys
    off = [f"train.steps={steps}", "schedule.anneal_until=0", "objective.lambda_clustering=0"]
    assert unfinished(load_config("quickstart", [*off, "objective.neighbour_partners=0"])) is None


CLUSTERING = ("objective.clustering_from", "objective.clustering_in_full")
