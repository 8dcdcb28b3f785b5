"""Clustering that starts when L_I has reached a share of H(c)."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from infogan_dist.checkpoints.run_folder import read_metrics
from infogan_dist.checkpoints.store import find
from infogan_dist.config.schema import Config
from infogan_dist.data.sources import open_images
from infogan_dist.distributed.cluster import Cluster
from infogan_dist.errors import UserError
from infogan_dist.latents import LatentSpec
from infogan_dist.training import clustering_start
from infogan_dist.training.clustering_start import CHECK_EVERY, ClusteringStart
from infogan_dist.training.cuda_graph import WARM_UP, GraphedStep
from infogan_dist.training.loop import train
from infogan_dist.training.schedule import clustering_weight
from infogan_dist.training.trainer import Trainer
from tests.conftest import ONE_PROCESS, tiny
from tests.training.test_cuda_graph import Script

WAITING = "information_trains: trunk, lambda_clustering: 2, clustering_after: 0.9"
STARTING = "information_trains: trunk, lambda_clustering: 2, clustering_after: 0.01, clustering_from: 0.4, clustering_in_full: 0.5"


def config_of(objective: str = WAITING, steps: int = 100) -> Config:
    """12 images a step, two categorical codes."""
    return tiny("x", f"objective={{{objective}}}", f"train.steps={steps}", "latents={categorical: [4, 2]}")


def observed(config: Config, shares: list[tuple[float, float]]) -> tuple[list[int | None], list[str]]:
    """When clustering starts, in images, after steps with these L_I / H(c) of the two codes; and the lines logged."""
    lines: list[str] = []
    with Cluster(ONE_PROCESS, 1, config.processes) as cluster:
        cluster.announce = lambda *messages: lines.extend(messages)  # type: ignore[method-assign]
        start, found = ClusteringStart(config, cluster, LatentSpec.from_config(config.latents)), []
        for step, (first, second) in enumerate(shares, 1):
            bounds = {"mi/categorical_0": first * math.log(4), "mi/categorical_1": second * math.log(2)}
            metrics = start.observe(
                step, {name: torch.tensor(value, dtype=torch.float64) for name, value in bounds.items()}
            )
            assert metrics == ({} if start.images is None else {"clustering/start": torch.tensor(float(start.images))})
            found.append(start.images)
    return found, lines


def test_it_starts_when_every_code_has_reached_the_share_on_average_over_the_steps_between_checks() -> None:
    config = config_of(f"{WAITING}, clustering_from: 0, clustering_in_full: 1")
    once, late = [(1.0, 1.0)] * (CHECK_EVERY - 1), [(0.85, 1.0), (0.95, 1.0)] * (CHECK_EVERY // 2)
    found, lines = observed(config, [*once, (-0.01, 1.0), *once, (1.0, -0.01), *late, (0.0, 0.0)])
    assert found == [None] * (2 * CHECK_EVERY + 9) + [(3 * CHECK_EVERY + 1) * 12] * 2
    assert lines == ["clustering starts at 372 images: L_I is 0.900, 1.000 of H(c)"]


def test_it_does_not_start_before_clustering_from() -> None:
    config = config_of(f"{WAITING}, clustering_from: 0.25, clustering_in_full: 1")
    found, _ = observed(config, [(1.0, 1.0)] * 30)
    assert found == [None] * 29 + [372]


def test_a_skipped_step_is_left_out() -> None:
    config = config_of(f"{WAITING}, clustering_from: 0, clustering_in_full: 1")
    found, _ = observed(config, [(math.nan, 1.0)] * CHECK_EVERY + [(math.nan, math.nan)] + [(0.91, 0.91)] * 9)
    assert found == [None] * 19 + [252], "with the mean of nine steps, and not with that of none"


def test_one_warning_names_the_remedy_when_it_is_late_and_one_at_the_end() -> None:
    config = config_of(f"{WAITING}, clustering_from: 0.1, clustering_in_full: 0.45")
    found, lines = observed(config, [(0.75, 0.5)] * 100)
    assert set(found) == {None}
    assert [line.partition(" images: ")[0] for line in lines] == [
        "warning: clustering has not started after 600",
        "warning: clustering has not started after 1,200",
    ]
    assert (
        "L_I of categorical_1 is 0.500 of H(c) on average over 10 steps; lower objective.clustering_after = 0.9"
        in lines[0]
    )


def test_the_weight_rises_from_the_start_over_the_same_number_of_images() -> None:
    config = config_of(f"{WAITING}, clustering_from: 0.2, clustering_in_full: 0.3")  # 120 images
    assert clustering_weight(config, 10**6) == 0
    weights = [clustering_weight(config, images, 500) for images in (400, 500, 560, 620, 10**6)]
    assert weights == pytest.approx([0, 0, 1, 2, 2])
    by_images = config_of(
        "information_trains: trunk, lambda_clustering: 2, clustering_from: 0.2, clustering_in_full: 0.3"
    )
    assert [clustering_weight(by_images, images) for images in (240, 300, 360)] == pytest.approx([0, 1, 2])


def state_after(config: Config, graph: bool) -> tuple[dict[str, Tensor], list[bool], int]:
    """The state after the run, whether each step had clustering, and how often a CUDA graph was recorded."""
    script = Script()
    with Cluster(ONE_PROCESS, 1, config.processes) as cluster:
        cluster.configure(config)
        trainer = Trainer(config, cluster, open_images(config.data))
        if graph:
            trainer._update = GraphedStep(trainer.state, script)
        clusters = ["loss/clustering" in trainer.step(step) for step in range(1, config.train.steps + 1)]
        state = trainer.state.state_dict()
    return (
        {f"{stem}/{name}": t for stem, tensors in state.items() for name, t in tensors.items()},
        clusters,
        script.recorded,
    )


def test_a_cuda_graph_is_recorded_again_and_has_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clustering_start, "CHECK_EVERY", 2)
    config = config_of(STARTING, steps=14)
    plain, clusters, _ = state_after(config, graph=False)
    graphed, also_clusters, recorded = state_after(config, graph=True)
    assert clusters == also_clusters == [False] * 8 + [True] * 6
    assert recorded == 2
    assert WARM_UP < 6
    assert all(torch.equal(graphed[name], tensor) for name, tensor in plain.items())


def test_a_checkpoint_has_the_mean_and_the_start() -> None:
    config = config_of(f"{WAITING}, clustering_from: 0, clustering_in_full: 1")
    with Cluster(ONE_PROCESS, 1, config.processes) as cluster:
        starts = [ClusteringStart(config, cluster, LatentSpec.from_config(config.latents)) for _ in range(2)]

        def observe(start: ClusteringStart, steps: range, share: float) -> None:
            bounds = {"mi/categorical_0": share * math.log(4), "mi/categorical_1": share * math.log(2)}
            for step in steps:
                start.observe(step, {name: torch.tensor(value) for name, value in bounds.items()})

        def saved(start: ClusteringStart) -> dict[str, Tensor]:
            return {name: tensor.clone() for name, tensor in start.state_dict().items()}

        first, second = starts
        observe(first, range(1, 6), 1.0)
        waiting = saved(first)
        second.load_state_dict(waiting)
        observe(second, range(6, 11), 0.82)
        assert second.images == 132, "on average 0.91"
        first.load_state_dict(saved(second))
        assert first.images == 132
        first.load_state_dict(waiting)
        assert first.images is None, "as in a rollback"


@pytest.mark.parametrize("stop", [6, 10], ids=["after the decision", "with clustering"])
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(
    stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clustering_start, "CHECK_EVERY", 2)
    found = []
    for name, ends in {"whole": (12,), "resumed": (stop, 12)}.items():
        for steps in ends:
            few = (f"train.steps={steps}", "schedule.images=144", "checkpoint.every=0", f"objective={{{STARTING}}}")
            train(tiny(tmp_path / name, *few), ONE_PROCESS)
        state = find(tmp_path / name).load()
        rows = {
            row["step"]: row.get("clustering/start")
            for row in read_metrics(tmp_path / name / "metrics.jsonl")
            if row["kind"] == "train"
        }
        assert rows == {step: 84 if step >= 6 else None for step in range(1, 13)}
        found.append({f"{stem}/{key}": tensor for stem, tensors in state.items() for key, tensor in tensors.items()})
    whole, resumed = found
    assert whole["clustering/start"] == 84
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (
            "clustering_after: 0.9",
            r"clustering_after = 0\.9 starts clustering .*lambda_clustering = 0; set it, say to 1",
        ),
        (f"{WAITING}, lambda_categorical: 0", r"objective\.lambda_categorical = 0; set it"),
    ],
)
def test_an_event_that_cannot_come_is_refused(objective: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        config_of(objective)
