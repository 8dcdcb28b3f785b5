from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infogan_dist.errors import UserError
from infogan_dist.sampling import animation
from infogan_dist.sampling.animation import ffmpeg, is_moving, write_animation

FRAMES = [Image.new("L", (5, 3 + (number == 2)), 60 * number) for number in range(4)]


@pytest.mark.parametrize(("name", "kind"), [("a.gif", "GIF"), ("a.APNG", "PNG"), ("a.webp", "WEBP")])
def test_frames_come_back_in_order_at_their_time(tmp_path: Path, name: str, kind: str) -> None:
    assert is_moving(tmp_path / name)
    write_animation(FRAMES, tmp_path / name, 100)
    with Image.open(tmp_path / name) as moving:
        assert (moving.format, moving.n_frames, moving.size) == (kind, 4, (5, 4))
        assert moving.info["loop"] == 0
        for number in range(4):
            moving.seek(number)
            moving.load()
            assert moving.info["duration"] == 100
            pixels = np.asarray(moving.convert("L"))
            assert (pixels[:3] == 60 * number).all()
            assert (pixels[3] == (60 * number if number == 2 else 255)).all()


def test_an_mp4_is_given_to_ffmpeg_as_raw_frames_of_even_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "bin" / "ffmpeg"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\nfor last; do :; done\necho "$@" > "$last"\ncat >> "$last"\n')
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{fake.parent}:/usr/bin:/bin")
    write_animation(FRAMES, tmp_path / "a.mp4", 100)
    arguments, raw = (tmp_path / "a.mp4").read_bytes().split(b"\n", 1)
    assert b"-video_size 6x4 -framerate 10 -i -" in arguments
    assert b"yuv420p" in arguments
    assert len(raw) == 4 * 6 * 4 * 3
    assert raw[:3] == b"\x00\x00\x00"
    assert raw[-3:] == b"\xff\xff\xff"
    fake.write_text("#!/bin/sh\ncat > /dev/null\necho some words >&2\necho no encoder >&2\nexit 1\n")
    with pytest.raises(OSError, match="ffmpeg failed: no encoder"):
        write_animation(FRAMES, tmp_path / "b.mp4", 100)
    assert not (tmp_path / "b.mp4").exists()


def test_an_mp4_that_a_player_reads(tmp_path: Path) -> None:
    try:
        ffmpeg()
    except UserError as error:
        pytest.skip(str(error))
    write_animation([Image.new("L", (32, 32), 8 * number) for number in range(10)], tmp_path / "a.mp4", 100)
    content = (tmp_path / "a.mp4").read_bytes()
    assert content[4:8] == b"ftyp"
    assert b"moov" in content


def test_without_ffmpeg_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(animation.shutil, "which", lambda _: None)
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    with pytest.raises(UserError, match=r"infogan_dist\[video\].*\.gif"):
        ffmpeg()
