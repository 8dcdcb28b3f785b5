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
    """The cores of this process, restored after the test."""
    before = os.sched_getaffinity(0)
    yield before
    os.sched_setaffinity(0, before)


@given(st.sets(st.integers(0, 300), min_size=1), st.integers(1, 9))
def test_each_core_belongs_to_one_process(cores: set[int], processes: int) -> None:
    shares = [share_of(cores, rank, processes) for rank in range(processes)]
    assert sorted(core for share in shares for core in share) == sorted(cores)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_process_is_pinned_to_its_share_until_free(cores: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    if len(cores) < 2:
        pytest.skip("one core cannot be shared out")
    monkeypatch.setattr("infogan_dist.distributed.cores._parent_cores", lambda: cores)
    for rank in range(2):
        mine = Cores(rank, 2, bind=True)
        assert os.sched_getaffinity(0) == share_of(cores, rank, 2)
        assert mine.share == len(cores) // 2
        mine.free()
        assert os.sched_getaffinity(0) == cores


@pytest.mark.parametrize("processes", [1, 2])
def test_affinity_set_by_a_launcher_is_kept(cores: set[int], processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infogan_dist.distributed.cores._parent_cores", lambda: cores | {max(cores) + 1})
    assert Cores(0, processes, bind=True).share == len(cores)
    assert os.sched_getaffinity(0) == cores


def test_more_processes_than_cores_and_gpu_processes_are_not_pinned(
    cores: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infogan_dist.distributed.cores._parent_cores", lambda: cores)
    assert Cores(0, len(cores) + 1, bind=True).share == 1
    assert Cores(0, 2, bind=False).share == max(1, len(cores) // 2)
    assert os.sched_getaffinity(0) == cores


def test_pin_cores_false_pins_nothing(cores: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    if len(cores) < 2:
        pytest.skip("one core cannot be shared out")
    monkeypatch.setattr("infogan_dist.distributed.cores._parent_cores", lambda: cores)
    second = Launch(processes=1, rank=0, local_rank=1, local_processes=2, cpu=True, precision=None)
    with Group(second, 1, ProcessesConfig()):
        assert os.sched_getaffinity(0) == share_of(cores, 1, 2)
    with Group(second, 1, ProcessesConfig(pin_cores=False)):
        assert os.sched_getaffinity(0) == cores
    assert os.sched_getaffinity(0) == cores
