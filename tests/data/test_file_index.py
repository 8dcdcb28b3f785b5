"""The index of a folder's image files, and its cache."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from infogan_dist.data import file_index
from infogan_dist.data.file_index import FileFacts, FileIndex, facts_of
from infogan_dist.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images in subfolders, a broken one, and files that are no images."""
    root = tmp_path / "Meine Bilder"
    for name, colour in (("b/Red Car.PNG", "red"), ("a/grey.jpg", "#808080")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30, 20), colour).save(root / name)
    (root / "b" / "broken.png").write_bytes(b"text")
    (root / ".hidden.png").write_bytes(b"text")
    (root / "notes.txt").touch()
    return root


def test_files_are_in_the_order_of_their_paths(folder: Path) -> None:
    (folder / "b" / "back").symlink_to(folder)  # a cycle
    index = FileIndex.scan(folder)
    assert index.names == ["a/grey.jpg", "b/Red Car.PNG", "b/broken.png"]
    assert index.sizes[2] == 4
    assert index.facts == {}


def test_check_finds_size_mode_colour_and_faults(folder: Path) -> None:
    index = FileIndex.scan(folder)
    assert index.check()
    assert index.facts[0] == FileFacts(30, 20, "RGB", coloured=False)
    assert index.facts[1].coloured
    assert list(index.broken) == [2]
    assert "PNG" in index.broken[2]
    assert index.decodable().names == ["a/grey.jpg", "b/Red Car.PNG"]
    assert index.decodable().facts[1].coloured


def test_a_file_is_decoded_again_only_when_it_changed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FileIndex.scan(folder).check()
    decoded = []
    monkeypatch.setattr(file_index, "facts_of", lambda path: decoded.append(path.name) or facts_of(path))
    index = FileIndex.scan(folder)
    assert index.check()
    assert decoded == []
    assert list(index.broken) == [2]
    Image.new("RGB", (8, 8), "blue").save(folder / "b" / "broken.png")
    index = FileIndex.scan(folder)
    assert index.broken == {}
    assert index.check()
    assert decoded == ["broken.png"]


@pytest.mark.parametrize(
    "content", ["", "7", "{}", '{"schema": 1, "files": {"a/grey.jpg": [1]}}', '{"schema": 99, "files": {}}']
)
def test_a_damaged_cache_is_ignored(folder: Path, own_cache: Path, content: str) -> None:
    FileIndex.scan(folder).check()
    (cached,) = own_cache.rglob("*.json")
    cached.write_text(content)
    assert FileIndex.scan(folder).facts == {}


def test_a_check_stops_in_time(folder: Path) -> None:
    index = FileIndex.scan(folder)
    assert not index.check(seconds=-1)
    assert index.facts == {}


def test_a_file_that_may_not_be_read_is_not_broken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("infogan_dist.data.decoding.open_regular", denied)
    index = FileIndex.scan(folder)
    index.check()
    assert index.broken[0] == "Permission denied"
    assert not index.is_broken(0)
    assert FileIndex.scan(folder).facts == {}  # and it is not cached


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere cannot be read"):
        FileIndex.scan(tmp_path / "nowhere")
