"""Launchers: whoever starts the processes, they train as one does."""

from __future__ import annotations

from pathlib import Path

import pytest

from infogan_dist.checkpoints import find
from tests.faults.harness import Bench, Variables, markers, said_once


def of_mpirun(rank: int, processes: int) -> dict[str, str]:
    place = {"SIZE": processes, "RANK": rank, "LOCAL_SIZE": processes, "LOCAL_RANK": rank}
    return {f"OMPI_COMM_WORLD_{name}": str(value) for name, value in place.items()}


def of_srun(rank: int, processes: int) -> dict[str, str]:
    place = {
        "STEP_NUM_TASKS": processes,
        "STEP_TASKS_PER_NODE": processes,
        "PROCID": rank,
        "LOCALID": rank,
        "NODEID": 0,
    }
    return {f"SLURM_{name}": str(value) for name, value in place.items()}


@pytest.mark.parametrize("variables", [of_mpirun, of_srun])
def test_processes_of_mpirun_and_srun_train_as_one_does(bench: Bench, whole: Path, variables: Variables) -> None:
    for rank in bench.train(processes=2, variables=variables):
        assert rank.ended() == 0, rank.err
    ours, one = find(bench.folder / "run").load(), find(whole).load()
    for name, tensors in one.items():
        for key, tensor in tensors.items():
            assert (ours[name][key] - tensor).abs().max() <= 1e-9, f"{name}.{key}"
    assert markers(bench.folder / "run") == ["DONE"]


@pytest.mark.parametrize("variables", [of_mpirun, of_srun])
def test_a_batch_that_they_cannot_share_is_refused(bench: Bench, variables: Variables) -> None:
    ranks = bench.train("run", "train.global_batch=3", processes=2, variables=variables)
    assert [rank.ended() for rank in ranks] == [2, 2]
    said_once(ranks[0].err, "train.global_batch = 3 is not divisible by 2 processes; use 2 or 4")
    assert ranks[1].err == ""
    assert not (bench.folder / "run").exists()
