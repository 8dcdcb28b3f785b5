"""Writes `--json FILE`, after a check before minutes of measuring that it can be written."""

from __future__ import annotations

from pathlib import Path

from infogan_dist.errors import UserError

NAME = "evaluation.json"
"""The file in its folder to which `sweep` writes the metrics of its runs, and which `report` reads."""


def check_writable(out: Path) -> None:
    """Raises UserError where `out` cannot be written. Leaves no file."""
    existed = out.exists()
    write(out, "", mode="a")
    if not existed:
        out.unlink()


def write(out: Path, text: str, mode: str = "w") -> None:
    """Write `text`. Raises UserError where `out` cannot be written."""
    try:
        with out.open(mode) as file:
            file.write(text)
    except OSError as error:
        raise UserError(f"--json {out} cannot be written: {error}") from error
