"""Speed, printed by CI: `pytest tests/bench`, under a minute. No time makes it fail."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from infogan_dist.config.reading import load_config
from infogan_dist.data.sources import open_images
from infogan_dist.diagnostics.bench.against import Baseline, compare
from infogan_dist.diagnostics.bench.bench_trainer import BenchTrainer
from infogan_dist.diagnostics.bench.command import resolved
from infogan_dist.distributed.cluster import Cluster
from tests.conftest import ONE_PROCESS, ROOT

WIDTH = "networks.width=8"
SIZES = {28: ("mnist_paper", WIDTH), 64: ("lab6", WIDTH)}
WARM_UP, ROUNDS = 2, 20
ALTERNATIONS, THEIR_STEPS = 1, 3  # of the reference loop, which is slow
SHARED = ROOT.parent / "shared"
REFERENCE = Path(os.environ.get("INFOGAN_REFERENCE", SHARED / "bench" / "reference_infogan.py"))
DATA = Path(os.environ.get("INFOGAN_DATA", SHARED / "data"))


@pytest.fixture
def trainer(request: pytest.FixtureRequest) -> Iterator[BenchTrainer]:
    """A trainer on the shipped digits, in the precision `auto`."""
    name, *overrides = request.param
    config = load_config(name, ["data.name=mnist-mini", "train.global_batch=100", *overrides])
    with Cluster(ONE_PROCESS, config.train.threads, config.processes) as cluster:
        config = resolved(config, cluster)
        cluster.configure(config)
        yield BenchTrainer(config, cluster, open_images(config.data))


@pytest.mark.benchmark(group="one step of 100 images at an eighth of the papers' width")
@pytest.mark.parametrize("trainer", SIZES.values(), ids=[f"{size} pixels" for size in SIZES], indirect=True)
def test_a_step(benchmark: BenchmarkFixture, trainer: BenchTrainer) -> None:
    def step() -> None:
        trainer.step()
        trainer.cluster.synchronize()

    benchmark.pedantic(step, rounds=ROUNDS, warmup_rounds=WARM_UP)


@pytest.mark.skipif(not REFERENCE.exists(), reason=f"the reference loop is not at {REFERENCE}; set INFOGAN_REFERENCE")
@pytest.mark.skipif(not (DATA / "MNIST").exists(), reason=f"full MNIST is not below {DATA}; set INFOGAN_DATA")
@pytest.mark.parametrize("trainer", [("mnist_paper",)], ids=["28 pixels at the paper's width"], indirect=True)
def test_the_ratio_to_the_reference_loop(trainer: BenchTrainer, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["--size", "28", "--batch", "100", "--steps", str(THEIR_STEPS), "--data", str(DATA)]
    command = shlex.join([sys.executable, str(REFERENCE), *settings])
    metrics = compare(trainer, Baseline.parse(command, ALTERNATIONS)).metrics(trainer.config.train.global_batch)
    with capsys.disabled():
        theirs = metrics["against_images_per_second"]
        print(f"\n{metrics['ratio']:.2f} times the reference loop's {theirs:.1f} images/s at 28 pixels and full width")
