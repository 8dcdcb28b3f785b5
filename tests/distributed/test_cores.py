from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infogan_dist.config.running import ProcessesConfig
from infogan_dist.distributed.cores import Cores, share_of
from infogan_dist.distributed.group import Group
from infogan_dist.distributed.launcher import Launch

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system binds no process to cores")


@pytest.fixture
def cores() -> Iterator[set[int]]:
    """Those of this process, which has them again after the test."""
    before = os.sched_getaffinity(0)
    yield before
    os.sched_setaffinity(0, before)


@given(st.sets(st.integers(0, 300), min_size=1), st.integers(1, 9))
def test_every_core_belongs_to_one_process_and_shares_differ_by_one_at_most(cores: set[int], processes: int) -> None:
    shares = [share_of(cores, rank, processes) for rank in range(processes)]
    assert sorted(core for share in shares for core in share) == sorted(cores)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_process_among_several_keeps_to_its_share_until_it_is_done(
    cores: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    if len(cores) < 2:
        pytest.skip("one core cannot be shared out")
    monkeypatch.setattr("infogan_dist.distributed.cores._cores_of_parent", lambda: cores)
    for rank in range(2):
        mine = Cores(rank, 2, bind=True)
        assert os.sched_getaffinity(0) == share_of(cores, rank, 2)
        assert mine.share == len(cores) // 2
        mine.free()
        assert os.sched_getaffinity(0) == cores


@pytest.mark.parametrize("processes", [1, 2])
def test_cores_that_a_launcher_gave_to_this_process_are_its_own(
    cores: set[int], processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infogan_dist.distributed.cores._cores_of_parent", lambda: cores | {max(cores) + 1})
    assert Cores(0, processes, bind=True).share == len(cores)
    assert os.sched_getaffinity(0) == cores


def test_more_processes_than_cores_and_processes_with_gpus_are_bound_to_none(
    cores: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infogan_dist.distributed.cores._cores_of_parent", lambda: cores)
    assert Cores(0, len(cores) + 1, bind=True).share == 1
    assert Cores(0, 2, bind=False).share == max(1, len(cores) // 2)
    assert os.sched_getaffinity(0) == cores


def test_the_config_may_leave_processes_unbound(cores: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    if len(cores) < 2:
        pytest.skip("one core cannot be shared out")
    monkeypatch.setattr("infogan_dist.distributed.cores._cores_of_parent", lambda: cores)
    second = Launch(processes=1, rank=0, local_rank=1, local_processes=2, cpu=True, precision=None)
    with Group(second, 1, ProcessesConfig()):
        assert os.sched_getaffinity(0) == share_of(cores, 1, 2)
    with Group(second, 1, ProcessesConfig(pin_cores=False)):
        assert os.sched_getaffinity(0) == cores
    assert os.sched_getaffinity(0) == cores
