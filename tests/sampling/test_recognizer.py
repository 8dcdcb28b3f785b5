"""FE and Q of a trained model: what they say of images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from infogan_dist import Generator, LatentSpec, Recognizer
from infogan_dist.config.running import ProcessesConfig
from infogan_dist.distributed.group import Group
from infogan_dist.errors import UserError
from infogan_dist.evaluation.evaluated_model import from_checkpoint
from infogan_dist.training.loop import train
from tests.conftest import ONE_PROCESS, tiny


class Fixed(nn.Module):
    """Gives the same rows for any images."""

    def __init__(self, rows: list[list[float]]):
        super().__init__()
        self.rows = nn.Parameter(torch.tensor(rows))

    def forward(self, _: Tensor) -> Tensor:
        return self.rows


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("recognizer") / "run"
    train(tiny(output, "train.precision=fp32"), ONE_PROCESS)
    return output


def test_codes_are_the_most_probable_class_and_the_mean() -> None:
    config = tiny("x", "latents={noise: [{dim: 3}], categorical: [3, 2], continuous: 1}")
    rows = [[0.0, 2.0, 1.0, 0.0, 1.0, 0.25, -9.0], [3.0, 2.0, 1.0, 5.0, 1.0, -0.5, 9.0]]
    Q = Recognizer(nn.Sequential(nn.Flatten(), nn.Linear(784, 1)), Fixed(rows), config)
    assert Q.spec == LatentSpec.from_config(config.latents)
    codes = Q.codes(torch.zeros(2, 1, 28, 28))
    assert codes.categorical.tolist() == [[1, 1], [0, 0]]
    assert codes.continuous.tolist() == [[0.25], [-0.5]]


def test_it_reads_what_the_evaluation_reads_in_any_number(run: Path) -> None:
    images = Generator.from_pretrained(run).sample(70, seed=0)
    Q = Recognizer.from_pretrained(run)
    posterior = Q.posterior(images)
    with Group(ONE_PROCESS, 1, ProcessesConfig()) as group:
        expected = from_checkpoint(run, group).recognise(images)
    torch.testing.assert_close(torch.cat([*posterior.logits, posterior.mean, posterior.log_variance], dim=1), expected)
    torch.testing.assert_close(Q.posterior(images[:1]).mean, posterior.mean[:1])
    assert Q.codes(images[:0]).categorical.shape == (0, len(Q.spec.categorical))


@pytest.mark.parametrize(
    "images", [torch.zeros(2, 28, 28), torch.zeros(2, 3, 28, 28), torch.zeros(2, 1, 28, 28, dtype=torch.uint8)]
)
def test_other_tensors_are_refused(run: Path, images: Tensor) -> None:
    with pytest.raises(UserError, match=r"images are \[B, 1, 28, 28\] of floats in \[-1, 1\], not \[2, "):
        Recognizer.from_pretrained(run).posterior(images)
