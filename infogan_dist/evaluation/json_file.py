"""Where `--json FILE` goes: metrics that took minutes to measure are not lost to a path that cannot be written."""

from __future__ import annotations

from pathlib import Path

from infogan_dist.errors import UserError


def check_writable(out: Path) -> None:
    """Before the measuring; leaves nothing. Raises UserError where `out` cannot be written."""
    existed = out.exists()
    write(out, "", mode="a")
    if not existed:
        out.unlink()


def write(out: Path, text: str, mode: str = "w") -> None:
    """Raises UserError where `out` cannot be written."""
    try:
        with out.open(mode) as file:
            file.write(text)
    except OSError as error:
        raise UserError(f"--json {out} cannot be written: {error}") from error
