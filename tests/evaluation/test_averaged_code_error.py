"""Known answers of Q averaged over augmented copies, with a Q whose errors depend on the copy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from infogan_dist.config.running import ProcessesConfig
from infogan_dist.data.sources import ArraySource
from infogan_dist.distributed.group import Group
from infogan_dist.evaluation.evaluated_model import EvaluatedModel
from infogan_dist.evaluation.metrics.averaged_code_error import averaged_code_error, averaged_probabilities
from infogan_dist.evaluation.metrics.code_error import code_error
from infogan_dist.evaluation.reals import Reals
from infogan_dist.evaluation.table import run_report
from tests.conftest import ONE_PROCESS, tiny

COUNT = 200
LABELS = torch.arange(COUNT) % 10


def images(seed: int) -> ArraySource:
    """A square whose grey is the label, on noise: a small warp keeps its brightest pixel and changes all sums."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 20, (COUNT, 1, 28, 28), generator=generator, dtype=torch.uint8)
    pixels[:, :, 8:20, 8:20] = (25 * (LABELS + 1)).to(torch.uint8)[:, None, None, None]
    return ArraySource(pixels)


class NoisyQ(nn.Module):
    """Names the label of `images`, but on a share of them, as a hash of the pixels decides, another class."""

    def __init__(self, wrong: float):
        super().__init__()
        self.weight, self.wrong = nn.Parameter(torch.zeros(())), wrong

    def forward(self, shown: Tensor) -> Tensor:
        ink = (shown + 1) * 127.5
        labels = (ink.amax((1, 2, 3)) / 25).round().long() - 1
        hashed = (ink.double().sum((1, 2, 3)) * 0.618034).remainder(1)
        other = (labels + 1 + (hashed / self.wrong * 9).long().clamp(max=8)) % 10 if self.wrong else labels
        return 5.0 * one_hot(torch.where(hashed < self.wrong, other, labels), 10)


@pytest.fixture(scope="module")
def group() -> Iterator[Group]:
    with Group(ONE_PROCESS, 1, ProcessesConfig()) as group:
        yield group


def model_of(Q: nn.Module, *overrides: str) -> EvaluatedModel:
    latents = "latents={noise: [{dim: 4}], categorical: [10], continuous: 0}"
    G = nn.Linear(1, 1)

    class FE(nn.Identity):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()))

    return EvaluatedModel(G, FE(), Q, tiny(Path("x"), latents, *overrides), None)


REALS = Reals(tiny("x").data, images(0), images(1), LABELS, LABELS, class_names=tuple("0123456789"))


def test_errors_that_depend_on_the_copy_average_out_and_the_plain_error_stays(group: Group) -> None:
    model = model_of(NoisyQ(0.4))
    plain = code_error(model, REALS, group)
    assert plain["code_error"] == pytest.approx(0.4, abs=0.12)
    found = averaged_code_error(model, REALS, group)
    assert found.keys() == {"code_error_averaged"}
    assert found["code_error_averaged"] < plain["code_error"] / 3
    assert found == averaged_code_error(model, REALS, group)


def test_a_q_that_is_always_right_and_one_that_ignores_the_image_keep_their_error(group: Group) -> None:
    assert averaged_code_error(model_of(NoisyQ(0.0)), REALS, group)["code_error_averaged"] == 0
    blind = NoisyQ(0.0)
    blind.forward = lambda shown: torch.eye(10)[torch.zeros(len(shown), dtype=torch.int64)]  # type: ignore[method-assign]
    assert averaged_code_error(model_of(blind), REALS, group)["code_error_averaged"] == pytest.approx(0.9)


def test_copies_are_warped_differently_and_have_no_cuts_and_pastes(group: Group) -> None:
    model = model_of(NoisyQ(0.4))
    averaged = averaged_probabilities(model, REALS.test, 0, group)
    assert averaged.shape == (COUNT, 10)
    assert torch.allclose(averaged.sum(1), torch.ones(COUNT, dtype=torch.float64))
    assert (averaged.amax(1) < 0.9).double().mean() > 0.9, "a single copy would be certain"
    pasted = model_of(NoisyQ(0.4), "augmentation.cut=0", "augmentation.paste=0")
    assert torch.equal(averaged_probabilities(pasted, REALS.test, 0, group), averaged)


def test_without_warps_it_is_absent(group: Group) -> None:
    assert averaged_code_error(model_of(NoisyQ(0.4), "augmentation.preset=none"), REALS, group) == {}
    clustered = dict.fromkeys(("purity", "calibration_error"), 0.5)
    shown = {"checkpoint": "x", "seed": 0, "images_seen": 1, "data": "mnist", "images": COUNT, "split": "test"}
    metrics = shown | clustered | code_error(model_of(NoisyQ(0.0)), REALS, group)
    assert "averaged" not in "\n".join(run_report(metrics))
    assert "1.25 % with Q averaged" in "\n".join(run_report(metrics | {"code_error_averaged": 0.0125}))
