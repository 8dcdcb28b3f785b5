from __future__ import annotations

from pathlib import Path

import pytest
import torch

from infogan_dist.checkpoints.store import find
from infogan_dist.data.sources import open_images
from infogan_dist.distributed.cluster import Cluster
from infogan_dist.errors import UserError
from infogan_dist.training.adaptive import adjusted
from infogan_dist.training.loop import train
from infogan_dist.training.trainer import Trainer
from tests.conftest import ONE_PROCESS, tiny

ADAPTIVE = "diff_augment: [colour, translation, cutout], diff_augment_target: 0.2, diff_augment_images: 120"
CONFIG = (f"objective={{{ADAPTIVE}}}", "optimizer.D.lr=5e-3", "train.global_batch=12", "train.steps=20")


@pytest.mark.parametrize(
    ("probability", "sign", "expected"),
    [(0.5, 0.9, 0.6), (0.5, 0.1, 0.4), (0.5, 0.6, 0.5), (0.95, 1.0, 1.0), (0.05, -1.0, 0.0), (0.5, float("nan"), 0.5)],
)
def test_probability_moves_towards_the_target_within_0_and_1(probability: float, sign: float, expected: float) -> None:
    moved = adjusted(torch.tensor(probability), torch.tensor(sign, dtype=torch.float64), 0.6, 0.1)
    torch.testing.assert_close(moved, torch.tensor(expected))


def test_a_tie_does_not_depend_on_rounding() -> None:
    sign = torch.tensor(0.1 + 0.2, dtype=torch.float64)
    assert sign.item() != 0.3
    assert adjusted(torch.tensor(0.5), sign, 0.3, 0.1) == 0.5


def test_steps_change_the_probability_by_batch_over_images_and_d_sees_it() -> None:
    config = tiny("x", *CONFIG)
    with Cluster(ONE_PROCESS, 1, config.processes) as cluster:
        cluster.configure(config)
        trainer = Trainer(config, cluster, open_images(config.data))
        steps = [trainer.step(number) for number in range(1, 21)]
        probability = 0.0
        for metrics in steps:
            direction = 1 if metrics["score/real_sign"] > 0.2 else -1
            probability = min(1.0, max(0.0, probability + direction * 0.1))
            assert metrics["augmentation/probability"].item() == pytest.approx(probability, abs=1e-6)
        assert probability > 0
        assert len({metrics["augmentation/probability"].item() for metrics in steps}) > 3


def test_a_checkpoint_has_the_probability_and_a_resumed_run_continues_from_it(tmp_path: Path) -> None:
    found = []
    for steps in (14, 15):
        train(tiny(tmp_path / "run", *CONFIG, "log.every=20", f"train.steps={steps}"), ONE_PROCESS)
        found.append(find(tmp_path / "run").load()["augmentation"]["probability"].item())
    assert found[0] > 0.25
    assert abs(found[1] - found[0]) == pytest.approx(0.1, abs=1e-6)


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ("diff_augment_target: 0.6", r"diff_augment_target = 0\.6 adapts .* which is empty; set it to"),
        (
            f"{ADAPTIVE}, adversarial: relativistic",
            r"adversarial = relativistic; use standard or hinge or least-squares",
        ),
    ],
)
def test_adaptation_that_cannot_work_is_refused(objective: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiny("x", f"objective={{{objective}}}")
