"""Which places of this machine the bytes of a file give away."""

from __future__ import annotations

import os
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch

import infogan_dist

SECRET = "a-name-that-nobody-else-should-read"  # in the path of the run, of its images and so of its config


def places_in(path: Path) -> list[str]:
    """The places that the files at or below a path name, archives in them included, each with the file that it stands in."""
    packages = {str(Path(module.__file__ or "").parent) for module in (infogan_dist, torch)}
    places = {SECRET, tempfile.gettempdir(), os.getcwd(), str(Path.home()), sys.prefix, sys.base_prefix, *packages}
    words = [place.encode() for place in places if len(place) > 2] + [b'.py"', b".py'", b"site-packages"]
    return [f"{name}: {word!r}" for name, content in _contents(path) for word in words if word in content]


def _contents(path: Path) -> Iterator[tuple[str, bytes]]:
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        yield file.name, file.read_bytes()
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                yield from ((f"{file.name}/{name}", archive.read(name)) for name in archive.namelist())
