"""One undisturbed run for all, and a separate workspace for each test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.harness import Workspace

os.environ |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}  # for the fork server, which starts later


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an undisturbed run on one process. Tests must not change it."""
    workspace = Workspace(tmp_path_factory.mktemp("undisturbed"))
    (only,) = workspace.train()
    assert only.exit_code() == 0, only.err
    return workspace.folder / "run"


@pytest.fixture(scope="session")
def undisturbed_of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same on two processes."""
    workspace = Workspace(tmp_path_factory.mktemp("undisturbed-2"))
    for rank in workspace.train(processes=2):
        assert rank.exit_code() == 0, rank.err
    return workspace.folder / "run"
