"""Members of tar files: which there are, their content, and damaged files."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infogan_dist.data import archives
from infogan_dist.data.archives import Member, read_archive
from infogan_dist.errors import UserError
from tests.data.tar_files import write_tar

LONG = "a/" * 90 + "b.png"  # needs an extended header


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_tar(tmp_path / "a.tar", [("1.png", b"one"), ("x.d/2.Seg.PNG", b""), (LONG, b"three" * 300)])


def test_members_are_read_in_place(archive: Path) -> None:
    members, damage = read_archive(archive)
    assert damage == ""
    assert [(each.name, each.open().read()) for each in members] == [
        ("1.png", b"one"),
        ("x.d/2.Seg.PNG", b""),
        (LONG, b"three" * 300),
    ]
    assert [(each.key, each.ending) for each in members[:2]] == [("1", ".png"), ("x.d/2", ".seg.png")]
    assert str(members[0]) == f"{archive}/1.png"


def test_an_archive_is_listed_again_only_when_it_changed(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read_archive(archive)
    with monkeypatch.context() as patch:
        patch.setattr(archives, "_listed", lambda *_: pytest.fail("it was listed again"))
        assert read_archive(archive) == first
    write_tar(archive, [("3.png", b"3")])
    assert [each.name for each in read_archive(archive).members] == ["3.png"]
    with pytest.raises(OSError, match="has changed"):
        first.members[0].open()


@pytest.mark.parametrize("content", ["", "7", "{}", '{"schema": 1, "state": 1}'])
def test_a_damaged_cache_is_ignored(archive: Path, own_cache: Path, content: str) -> None:
    first = read_archive(archive)
    (cached,) = own_cache.rglob("*.json")
    cached.write_text(content)
    assert read_archive(archive) == first


def test_threads_read_more_archives_than_stay_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_opened", archives.lru_cache(1)(archives._Opened))
    members = [
        read_archive(write_tar(tmp_path / f"{number}.tar", [("a", bytes([number]))])).members[0] for number in range(4)
    ]
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda member: member.open().read()[0], members * 500)) == list(range(4)) * 500
    after = len(os.listdir("/proc/self/fd")) if before else 0
    assert after <= before + 1


def cut(where: int) -> Callable[[bytes], bytes]:
    return lambda content: content[:where]


def flipped(content: bytes) -> bytes:
    """A damaged second header."""
    return content[:1024] + b"\xff" * 8 + content[1032:]


@pytest.mark.parametrize(
    ("damage", "members", "reason"),
    [
        (cut(0), 0, "not an uncompressed tar file: empty file"),
        (cut(300), 0, "not an uncompressed tar file"),
        (lambda _: b"\x1f\x8b" + b"text" * 500, 0, "not an uncompressed tar file"),
        (cut(514), 0, "it ends inside 1.png"),
        (cut(1024), 1, "neither a header nor the end of the archive is at byte 1024"),
        (cut(1300), 1, "at byte 1024"),
        (flipped, 1, "at byte 1024"),
    ],
)
def test_damage_is_named_and_what_precedes_it_is_read(
    archive: Path, damage: Callable[[bytes], bytes], members: int, reason: str
) -> None:
    archive.write_bytes(damage(archive.read_bytes()))
    for _ in range(2):  # listed, and from the cache
        found = read_archive(archive)
        assert reason in found.damage
        assert ("uncompressed" in found.damage) == ("uncompressed" in reason)
        assert [each.name for each in found.members] == ["1.png"][:members]


def test_negative_sizes_and_links_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("a.png")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"abc"))
        member = tarfile.TarInfo("b.png")
        member.type, member.linkname = tarfile.SYMTYPE, "a.png"
        archive.addfile(member)
    found = read_archive(path)
    assert [each.name for each in found.members] == ["a.png"]
    assert "b.png is a link" in found.damage
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("a.png")
        member.pax_headers = {"size": "-2048"}
        archive.addfile(member)
    assert read_archive(path).damage


def test_a_member_that_is_too_large_or_cut_later_is_refused(archive: Path) -> None:
    with pytest.raises(ValueError, match="more than"):
        Member(archive, 0, "a", 0, 2**40).open()
    member = read_archive(archive).members[2]
    state = archive.stat()
    archive.write_bytes(archive.read_bytes()[:2048])
    os.utime(archive, ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(ValueError, match="ends after"):
        member.open()


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the shard .*nowhere\.tar cannot be read"):
        read_archive(tmp_path / "nowhere.tar")
