"""One undisturbed run for all, and a bench of its own for each test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.harness import Bench

os.environ |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}  # for the server of forks, which starts later


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing disturbed, on one process. Not to be changed."""
    bench = Bench(tmp_path_factory.mktemp("whole"))
    (only,) = bench.train()
    assert only.ended() == 0, only.err
    return bench.folder / "run"


@pytest.fixture(scope="session")
def whole_of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same on two processes."""
    bench = Bench(tmp_path_factory.mktemp("whole-of-two"))
    for rank in bench.train(processes=2):
        assert rank.ended() == 0, rank.err
    return bench.folder / "run"
