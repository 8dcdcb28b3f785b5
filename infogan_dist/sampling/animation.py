"""Moving pictures: GIF, APNG and WebP by Pillow, MP4 by ffmpeg."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from infogan_dist.errors import UserError
from infogan_dist.files import atomic_write
from infogan_dist.sampling.outputs import save_picture

MOVING: dict[str, dict[str, Any]] = {  # what Pillow is given, by the ending of the file; ffmpeg writes the last
    ".gif": {"format": "GIF", "loop": 0},
    ".apng": {"format": "PNG", "loop": 0},
    ".webp": {"format": "WEBP", "loop": 0, "lossless": True},
    ".mp4": {},
}


def is_moving(out: Path) -> bool:
    """Whether `out` is a moving picture by its ending."""
    return out.suffix.lower() in MOVING


def ffmpeg() -> str:
    """The path of ffmpeg, or of the one that imageio-ffmpeg brings. Raises UserError where there is neither."""
    found = shutil.which("ffmpeg")
    if found is not None:
        return found
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        bundled: str = get_ffmpeg_exe()
        return bundled
    except (ImportError, RuntimeError):
        raise UserError(
            "an .mp4 needs ffmpeg, which is not on the PATH; install it, or `pip install infogan_dist[video]`, or write a .gif, "
            ".apng or .webp"
        ) from None


def write_animation(frames: Sequence[Image.Image], out: Path, milliseconds: int) -> None:
    """The frames one after the other, each for so long, again and again (an MP4: once). Raises OSError.

    A frame that equals the one before may be stored as a longer one. GIF has 256 colours: colour images lose some.
    """
    width, height = max(frame.width for frame in frames), max(frame.height for frame in frames)
    if out.suffix.lower() == ".mp4":
        width, height = width + width % 2, height + height % 2  # yuv420p halves both
    alike = [_on_white(frame, width, height) for frame in frames]
    if out.suffix.lower() == ".mp4":
        _write_mp4(alike, out, milliseconds)
    else:
        options = {"save_all": True, "append_images": alike[1:], "duration": milliseconds}
        save_picture(alike[0], out, MOVING[out.suffix.lower()] | options)


def _on_white(frame: Image.Image, width: int, height: int) -> Image.Image:
    if frame.size == (width, height):
        return frame
    page = Image.new(frame.mode, (width, height), "white")
    page.paste(frame, (0, 0))
    return page


def _write_mp4(frames: Sequence[Image.Image], out: Path, milliseconds: int) -> None:
    size = f"{frames[0].width}x{frames[0].height}"
    read = ["-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", size, "-framerate", f"{1000 / milliseconds:g}"]
    write = ["-pix_fmt", "yuv420p", "-movflags", "+faststart", "-f", "mp4"]
    raw = b"".join(frame.convert("RGB").tobytes() for frame in frames)
    with atomic_write(out, durable=False) as partial:
        command = [ffmpeg(), "-loglevel", "error", "-y", *read, "-i", "-", *write, str(partial.absolute())]
        done = subprocess.run(command, input=raw, capture_output=True, check=False)  # noqa: S603 - no shell
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise OSError(f"ffmpeg failed: {said[-1] if said else f'exit code {done.returncode}'}")
