from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from infogan_dist.cli.main import main
from infogan_dist.files import (
    atomic_folder,
    atomic_write,
    check_safetensors_header,
    open_regular,
    path_problem,
    read_regular,
    write_safetensors,
)
from infogan_dist.training.loop import train
from tests.conftest import ONE_PROCESS, tiny

SPECIAL: dict[str, Callable[[Path], object]] = {
    "a FIFO": os.mkfifo,
    "a link to a FIFO": lambda path: (os.mkfifo(path.with_name("fifo")), path.symlink_to("fifo")),
    "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "a folder": Path.mkdir,
    "a socket": lambda path: socket.socket(socket.AF_UNIX).bind(os.path.relpath(path)),
}


@pytest.mark.parametrize("kind", SPECIAL)
def test_only_regular_files_are_opened(tmp_path: Path, kind: str) -> None:
    SPECIAL[kind](tmp_path / "file")
    with pytest.raises(OSError, match="no regular file"):
        open_regular(tmp_path / "file")


def test_a_link_to_a_regular_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "link", 7) == b"content"


def test_a_file_larger_than_the_limit_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.truncate(tmp_path / "file", 2**40)  # sparse: more than any memory, and nothing on the disk
    with pytest.raises(OSError, match="more than 100 bytes"):
        read_regular(tmp_path / "file", 100)
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "none", 100)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc here")
def test_a_file_that_says_it_is_empty_is_read_up_to_the_limit() -> None:
    assert b"VmRSS" in read_regular("/proc/self/status", 2**16)
    with pytest.raises(OSError, match="more than 100 bytes"):
        read_regular("/proc/self/status", 100)


def test_a_safetensors_header_of_a_size_beyond_belief_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes((2**40).to_bytes(8, "little") + b"{}")
    with pytest.raises(OSError, match="header has 1099511627776 bytes"):
        check_safetensors_header(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "is empty"),
        ("a\0", "NUL"),
        ("a/" + "b" * 256, "name of 256 bytes"),
        ("a/" * 3000, "has 6000 bytes"),
        ("\ud800", "Unicode"),
        ("runs/a b é.safetensors", None),
        ("/" + "b" * 255, None),
    ],
)
def test_what_no_file_can_be_called_is_said(path: str, words: str | None) -> None:
    problem = path_problem(path)
    assert (words is None and problem is None) or (problem is not None and words is not None and words in problem)


@pytest.fixture(params=[0o022, 0o027, 0o002], ids=oct)
def mode(request: pytest.FixtureRequest) -> Iterator[int]:
    """The permissions that a new file has under another umask."""
    earlier = os.umask(request.param)
    yield 0o666 & ~request.param
    os.umask(earlier)


def modes_below(folder: Path) -> dict[int, list[str]]:
    """The files below a folder by their permissions."""
    found: dict[int, list[str]] = {}
    for file in folder.rglob("*"):
        if file.is_file():
            found.setdefault(file.stat().st_mode & 0o777, []).append(file.name)
    return found


def test_a_safetensors_file_follows_the_umask(tmp_path: Path, mode: int) -> None:
    write_safetensors(tmp_path / "a.safetensors", {"w": torch.ones(2, 3).T}, {"key": "value"})
    with atomic_write(tmp_path / "b.safetensors") as partial:
        write_safetensors(partial, {"w": torch.ones(1)})
    assert list(modes_below(tmp_path)) == [mode]
    assert torch.equal(load_file(tmp_path / "a.safetensors")["w"], torch.ones(3, 2))


def test_a_safetensors_file_has_the_same_bytes_each_time(tmp_path: Path) -> None:
    metadata = {f"key {number}": f'"ü{number}\n"' for number in range(20)}
    written = []
    for number in range(3):
        path = tmp_path / f"{number}.safetensors"
        write_safetensors(path, {"w": torch.ones(3), "a": torch.zeros(2, 2)}, metadata)
        written.append(path.read_bytes())
    assert len(set(written)) == 1
    assert (8 + int.from_bytes(written[0][:8], "little")) % 8 == 0
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == metadata
        assert torch.equal(file.get_tensor("w"), torch.ones(3))


def test_every_file_of_a_run_and_of_the_commands_after_it_follows_the_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    earlier = os.umask(0o027)
    try:
        train(tiny(tmp_path / "run", "train.precision=fp32", "train.steps=2", "sample.every=2"), ONE_PROCESS)
        for command in (
            ["sample", "run", "--out", "a.png"],
            ["sample", "run", "--out", "a.npz"],
            ["sample", "run", "--out", "pictures", "--count", "2"],
            ["convert", "run", "--to", "safetensors", "--out", "G.safetensors"],
            ["convert", "run", "--to", "torch-export", "--out", "G.pt2"],
        ):
            assert main(command) == 0
    finally:
        os.umask(earlier)
    modes = modes_below(tmp_path)
    assert list(modes) == [0o640], modes
    assert {"manifest.json", "G.safetensors", "optimizer_D.safetensors", "metrics.jsonl", "curves.png"} <= set(
        modes[0o640]
    )
    assert {folder.stat().st_mode & 0o777 for folder in tmp_path.rglob("*") if folder.is_dir()} == {0o750}


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def fill(fail: bool) -> None:
        with atomic_folder(tmp_path / "folder") as partial:
            (partial / "a").write_text("a")
            if fail:
                raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        fill(fail=True)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "folder").mkdir()
    fill(fail=False)
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "a"]
    with pytest.raises(OSError, match="folder"):
        fill(fail=False)  # it is not empty any more
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "a"]
