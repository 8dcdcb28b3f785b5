"""Failed writes: a full disk, no inode left, a limit on the size of files, a read-only output."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.harness import Workspace, final_bytes, markers, only_message, steps_kept, steps_logged, tmpfs

ROOM = 96 * 1024  # bytes left on the full disk: enough for metrics and pictures, but not for a checkpoint


@pytest.fixture
def disk(workspace: Workspace) -> Iterator[Path]:
    yield from tmpfs(workspace.folder / "disk", "size=8m")


def fill(disk: Path, but: int) -> Path:
    """Make a file that leaves `but` bytes of the disk free."""
    filler = disk / "filler"
    free = shutil.disk_usage(disk).free - but
    filler.write_bytes(b"\0" * max(free, 0))
    return filler


@pytest.mark.parametrize("processes", [1, 2])
def test_full_disk_loses_no_checkpoint_and_the_same_command_continues(
    workspace: Workspace, disk: Path, undisturbed: Path, undisturbed_of_two: Path, processes: int
) -> None:
    for first in workspace.train("disk/run", "train.steps=4", processes=processes):
        assert first.exit_code() == 0, first.err
    filler = fill(disk, but=ROOM)
    for rank in workspace.train("disk/run", processes=processes):
        assert rank.exit_code() == 1, rank.err
        only_message(rank.err, "disk/run cannot be written to", "No space left", "the checkpoint of step 4 is there")
    assert steps_kept(disk / "run") == [2, 4]
    filler.unlink()
    for last in workspace.train("disk/run", processes=processes):
        assert last.exit_code() == 0, last.err
    assert final_bytes(disk / "run") == final_bytes(undisturbed if processes == 1 else undisturbed_of_two)
    assert markers(disk / "run") == ["DONE"]


def test_full_disk_while_writing_metrics_ends_the_run_with_a_message(
    workspace: Workspace, disk: Path, undisturbed: Path
) -> None:
    (first,) = workspace.train("disk/run", faults="kill@5")
    assert first.exit_code() == -9
    filler = fill(disk, but=4096 * 64)  # for reals.png, the markers and the lock
    (second,) = workspace.train("disk/run", "log.every=1", faults="fill-disk@6")
    assert second.exit_code() == 1, second.err
    only_message(second.err, "No space left", "the checkpoint of step 4 is there")
    assert steps_kept(disk / "run") == [2, 4]
    filler.unlink()
    (disk / "more").unlink()
    (third,) = workspace.train("disk/run")
    assert third.exit_code() == 0, third.err
    assert final_bytes(disk / "run") == final_bytes(undisturbed)
    assert steps_logged(disk / "run") == [1, 2, 3, 4, 5, 6]


def test_disk_without_inodes_loses_no_checkpoint(workspace: Workspace) -> None:
    for disk in tmpfs(workspace.folder / "disk", "size=8m,nr_inodes=40"):
        (first,) = workspace.train("disk/run", "train.steps=2")
        assert first.exit_code() == 0, first.err
        for number in range(40):
            try:
                (disk / f"filler-{number}").touch()
            except OSError:
                break
        for number in range(4):  # for other files than the checkpoint
            (disk / f"filler-{number}").unlink()
        (second,) = workspace.train("disk/run", faults="no-pictures")
        assert second.exit_code() == 1, second.err
        only_message(second.err, "No space left", "the checkpoint of step 2 is there")
        assert steps_kept(disk / "run") == [2]


def test_file_size_limit_loses_no_checkpoint(workspace: Workspace) -> None:
    (first,) = workspace.train("run", "train.steps=2")
    assert first.exit_code() == 0, first.err
    (second,) = workspace.train(faults=f"filesize={20 * 1024}")
    assert second.exit_code() == 1, second.err
    only_message(second.err, "run cannot be written to", "the checkpoint of step 2 is there")
    assert steps_kept(workspace.folder / "run") == [2]
    assert markers(workspace.folder / "run") == ["FAILED"]


def test_read_only_output_is_refused(workspace: Workspace, disk: Path) -> None:
    (first,) = workspace.train("disk/run", "train.steps=2")
    assert first.exit_code() == 0, first.err
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    (second,) = workspace.train("disk/run")
    assert second.exit_code() == 2
    only_message(second.err, "output = disk/run", "Read-only file system", "choose another output")
    assert steps_kept(disk / "run") == [2]


@pytest.mark.parametrize("name", ["run", "run/.lock", "run/metrics.jsonl", "run/config.yaml"])
def test_wrong_kind_of_file_in_the_output_is_refused(workspace: Workspace, name: str) -> None:
    path = workspace.folder / name
    path.parent.mkdir(exist_ok=True)
    if name == "run":
        path.touch()
    else:
        path.mkdir()
    (only,) = workspace.train()
    assert only.exit_code() == 2, only.err
    only_message(only.err, name)
