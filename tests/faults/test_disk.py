"""What cannot be written: a full disk, no inode left, a limit on the size of files, a read-only output."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.harness import Bench, final_bytes, markers, said_once, steps_kept, steps_logged, tmpfs

ROOM = 96 * 1024  # bytes left on the full disk: metrics and pictures find room, a checkpoint does not


@pytest.fixture
def disk(bench: Bench) -> Iterator[Path]:
    yield from tmpfs(bench.folder / "disk", "size=8m")


def fill(disk: Path, but: int) -> Path:
    """A file that leaves only so many bytes of the disk free."""
    filler = disk / "filler"
    free = shutil.disk_usage(disk).free - but
    filler.write_bytes(b"\0" * max(free, 0))
    return filler


@pytest.mark.parametrize("processes", [1, 2])
def test_full_disk_loses_no_checkpoint_and_the_same_command_continues(
    bench: Bench, disk: Path, whole: Path, whole_of_two: Path, processes: int
) -> None:
    for first in bench.train("disk/run", "train.steps=4", processes=processes):
        assert first.ended() == 0, first.err
    filler = fill(disk, but=ROOM)
    for rank in bench.train("disk/run", processes=processes):
        assert rank.ended() == 1, rank.err
        said_once(rank.err, "disk/run cannot be written to", "No space left", "the checkpoint of step 4 is there")
    assert steps_kept(disk / "run") == [2, 4]
    filler.unlink()
    for last in bench.train("disk/run", processes=processes):
        assert last.ended() == 0, last.err
    assert final_bytes(disk / "run") == final_bytes(whole if processes == 1 else whole_of_two)
    assert markers(disk / "run") == ["DONE"]


def test_full_disk_while_writing_metrics_ends_the_run_with_a_message(bench: Bench, disk: Path, whole: Path) -> None:
    (first,) = bench.train("disk/run", faults="kill@5")
    assert first.ended() == -9
    filler = fill(disk, but=4096 * 3)  # for the markers and the lock
    (second,) = bench.train("disk/run", "log.every=1", faults="fill-disk@6")
    assert second.ended() == 1, second.err
    said_once(second.err, "No space left", "the checkpoint of step 4 is there")
    assert steps_kept(disk / "run") == [2, 4]
    filler.unlink()
    (disk / "more").unlink()
    (third,) = bench.train("disk/run")
    assert third.ended() == 0, third.err
    assert final_bytes(disk / "run") == final_bytes(whole)
    assert steps_logged(disk / "run") == [1, 2, 3, 4, 5, 6]


def test_disk_without_inodes_loses_no_checkpoint(bench: Bench) -> None:
    for disk in tmpfs(bench.folder / "disk", "size=8m,nr_inodes=40"):
        (first,) = bench.train("disk/run", "train.steps=2")
        assert first.ended() == 0, first.err
        for number in range(40):
            try:
                (disk / f"filler-{number}").touch()
            except OSError:
                break
        for number in range(4):  # for what is written beside the checkpoint
            (disk / f"filler-{number}").unlink()
        (second,) = bench.train("disk/run", faults="no-pictures")
        assert second.ended() == 1, second.err
        said_once(second.err, "No space left", "the checkpoint of step 2 is there")
        assert steps_kept(disk / "run") == [2]


def test_file_size_limit_loses_no_checkpoint(bench: Bench) -> None:
    (first,) = bench.train("run", "train.steps=2")
    assert first.ended() == 0, first.err
    (second,) = bench.train(faults=f"filesize={20 * 1024}")
    assert second.ended() == 1, second.err
    said_once(second.err, "run cannot be written to", "the checkpoint of step 2 is there")
    assert steps_kept(bench.folder / "run") == [2]
    assert markers(bench.folder / "run") == ["FAILED"]


def test_read_only_output_is_refused(bench: Bench, disk: Path) -> None:
    (first,) = bench.train("disk/run", "train.steps=2")
    assert first.ended() == 0, first.err
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    (second,) = bench.train("disk/run")
    assert second.ended() == 2
    said_once(second.err, "output = disk/run", "Read-only file system", "choose another output")
    assert steps_kept(disk / "run") == [2]


@pytest.mark.parametrize("name", ["run", "run/.lock", "run/metrics.jsonl", "run/config.yaml"])
def test_wrong_kind_of_file_in_the_output_is_refused(bench: Bench, name: str) -> None:
    path = bench.folder / name
    path.parent.mkdir(exist_ok=True)
    if name == "run":
        path.touch()
    else:
        path.mkdir()
    (only,) = bench.train()
    assert only.ended() == 2, only.err
    said_once(only.err, name)
