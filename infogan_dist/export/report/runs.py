"""Reads run folders in any state."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infogan_dist.checkpoints import store as checkpoints
from infogan_dist.checkpoints.run_folder import read_metrics
from infogan_dist.checkpoints.run_lock import holder_of
from infogan_dist.checkpoints.store import Checkpoint
from infogan_dist.config.reading import load_config
from infogan_dist.config.schema import Config
from infogan_dist.errors import InfoganError, UserError, printable
from infogan_dist.evaluation.runs import MARKER_LIMIT, is_run
from infogan_dist.files import read_regular

Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Run:
    """The contents of a run folder; None or empty if it lacks them."""

    path: Path
    name: str
    """The fewest last parts of its path that no other run ends with."""
    state: str
    """`done`, `failed`, `stopped` (by a signal), `running` or `unfinished` (its process ended without a marker)."""
    problems: tuple[str, ...]
    """Sentences about its marker, damaged checkpoints and unreadable files."""
    config: Config | None
    checkpoint: Checkpoint | None
    """The newest that verifies."""
    training: list[Row]
    evaluations: list[Row]
    timing: list[Row]
    skipped: int
    """Steps with a skipped update."""

    @property
    def step(self) -> int:
        """The last step that is known."""
        logged = self.training[-1]["step"] if self.training else 0
        return max(logged, self.checkpoint.step if self.checkpoint is not None else 0)

    @property
    def images_seen(self) -> int:
        logged = self.training[-1]["images_seen"] if self.training else 0
        return max(logged, self.checkpoint.images_seen if self.checkpoint is not None else 0)


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """The runs at `paths`; a folder of runs, such as a sweep's, gives each of them in natural order.

    Raises UserError for a path that is neither.
    """
    folders: dict[Path, Path] = {}
    for path in paths:
        for folder in _folders(path):
            folders.setdefault(folder.resolve(), folder)
    return [_read(folder, name) for folder, name in zip(folders.values(), names_of(list(folders)), strict=True)]


def names_of(folders: Sequence[Path]) -> list[str]:
    """For each of several distinct absolute paths, the fewest last parts that no other ends with."""
    names = []
    for folder in folders:
        parts = next(
            count
            for count in range(1, len(folder.parts) + 1)
            if sum(other.parts[-count:] == folder.parts[-count:] for other in folders) == 1
        )
        names.append("/".join(folder.parts[-parts:]))
    return names


def _folders(path: Path) -> list[Path]:
    if is_run(path):
        return [path]
    if not path.exists():
        raise UserError(f"there is no {path}; give a run folder or the folder of a sweep")
    with suppress(OSError):
        found = [folder for folder in path.iterdir() if is_run(folder)]
        if found:
            return sorted(found, key=lambda folder: _natural(folder.name))
    raise UserError(f"{path} holds no run; give a run folder or the folder of a sweep")


def _natural(name: str) -> list[tuple[int, str]]:
    """A key by which seed=2 comes before seed=10."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]


def _read(path: Path, name: str) -> Run:
    problems: list[str] = []
    state, reason = _state(path)
    problems += [reason] if reason else []
    config, checkpoint = None, None
    with _collecting(problems):
        checkpoint, complaints = checkpoints.newest(path / "checkpoints")
        problems += [f"damaged checkpoint: {complaint}" for complaint in complaints]
    with _collecting(problems):
        if (path / "config.yaml").exists():
            config = load_config(path / "config.yaml")
        elif checkpoint is not None:
            config = checkpoint.config
    rows: list[Row] = []
    timing: list[Row] = []
    with _collecting(problems):
        rows, timing = read_metrics(path / "metrics.jsonl"), read_metrics(path / "timing.jsonl")
    return Run(
        path=path,
        name=printable(os.fsencode(name).decode(errors="replace")),
        state=state,
        problems=tuple(problem.replace(str(path), name) for problem in problems),  # without folders of this machine
        config=config,
        checkpoint=checkpoint,
        training=[row for row in rows if row["kind"] == "train"],
        evaluations=[row for row in rows if row["kind"] == "evaluate"],
        timing=timing,
        skipped=len({row["step"] for row in rows if row["kind"] == "skipped"}),
    )


def _state(path: Path) -> tuple[str, str | None]:
    """The state, and the text of its marker file."""
    if holder_of(path) is not None:
        return "running", None
    for marker, state in (("FAILED", "failed"), ("PREEMPTED", "stopped"), ("DONE", "done")):
        if (path / marker).exists():
            text = ""
            with suppress(OSError):
                text = " ".join(read_regular(path / marker, MARKER_LIMIT).decode(errors="replace").split())
            return state, printable(text) or None
    return "unfinished", "its process ended without a marker file; the same train command resumes it"


@contextmanager
def _collecting(problems: list[str]) -> Iterator[None]:
    """Collect the message of an InfoganError in `problems`."""
    try:
        yield
    except InfoganError as error:
        problems.append(str(error))
