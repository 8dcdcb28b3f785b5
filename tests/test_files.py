from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from infogan_dist.files import check_safetensors_header, open_regular, path_problem, read_regular

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
