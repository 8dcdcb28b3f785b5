"""The run folder: what lies where, who may write to it, and what is written.

Rank zero alone calls these functions.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
import secrets
import shutil
import socket
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from infogan_dist import checkpoints
from infogan_dist.background import Background
from infogan_dist.checkpoints import Checkpoint
from infogan_dist.config import Config
from infogan_dist.config_reading import dump_config
from infogan_dist.errors import CannotWrite, StoppedBySignal, UserError

MARKERS = ("DONE", "PREEMPTED", "FAILED")
DEBUG = "DEBUG"  # the marker of a folder that `train --debug` made and may clear
LOCK = ".lock"
RUN_ID = "run_id"
LAST_ROWS = 20  # of metrics.jsonl, in a post-mortem


class RunFolder:
    """An open run: locked against a second writer, its config recorded, its metrics cut back to where it goes on.

    Opening raises UserError where another process has the folder or it cannot be written to. With `debug`, opening removes
    what an earlier debug run left, and raises UserError where the folder holds anything else.
    """

    def __init__(self, config: Config, checkpoint: Checkpoint | None, debug: bool = False):
        self.path = Path(config.output)
        self.checkpoints = self.path / "checkpoints"
        self._keeping = config.checkpoint
        self._saving = Background()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = self._locked()
            if debug:
                self._clear_debug_run()
            self._check_unmoved(checkpoint.step if checkpoint else 0)
            for marker in (*MARKERS, *(() if debug else (DEBUG,))):  # a run that continues a debug run is a real run
                (self.path / marker).unlink(missing_ok=True)
            _replace(self.path / "config.yaml", dump_config(config))
            self._cut_metrics(checkpoint.step if checkpoint else 0)
            checkpoints.clear(self.checkpoints)
        except OSError as error:
            raise UserError(f"output = {self.path} cannot be written to: {error}; mend it or choose another") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError) if kind is not None else nullcontext():
            self._saving.wait()
        marker = "DONE" if kind is None else "PREEMPTED" if issubclass(kind, StoppedBySignal) else "FAILED"
        with suppress(OSError) if kind is not None else nullcontext():  # where nothing can be written, no marker either
            _replace(self.path / marker, f"{error}\n" if error is not None else "")
        self._lock.close()

    def mark_failed(self, message: str) -> None:
        """Leave the marker of a run that ends without its context."""
        _replace(self.path / "FAILED", f"{message}\n")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Within, a write that fails becomes CannotWrite, which says what is left; one in the background that has failed, too."""
        try:
            self._saving.check()
            yield
        except OSError as error:
            steps = [checkpoints.step_of(path) for path in checkpoints.folders(self.checkpoints)]
            left = f"the checkpoint of step {steps[0]} is" if steps else "no checkpoint is"
            raise CannotWrite(
                f"{self.path} cannot be written to: {error}; {left} there: make room, and the same command goes on"
            ) from error

    def record(self, kind: str, step: int, images_seen: int, metrics: dict[str, float]) -> None:
        """Append one row of numbers to metrics.jsonl. One that is not finite is written as null."""
        numbers = {key: value if math.isfinite(value) else None for key, value in metrics.items()}
        self.append(kind, step, images_seen, numbers)

    def append(self, kind: str, step: int, images_seen: int, facts: Mapping[str, object]) -> None:
        """Append one row of any facts to metrics.jsonl."""
        row = {"kind": kind, "step": step, "images_seen": images_seen, **facts}
        with self._metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def rows(self) -> list[dict[str, Any]]:
        """Every whole row of metrics.jsonl."""
        return read_metrics(self._metrics)

    def newest_rows(self, kind: str, count: int) -> deque[dict[str, Any]]:
        """The last rows of a kind; the first falls out where another is added."""
        return deque((row for row in self.rows() if row.get("kind") == kind), maxlen=count)

    def write_post_mortem(self, facts: Mapping[str, object]) -> None:
        """Leave post_mortem.json, with the newest rows of metrics.jsonl and what ran: all that a look at a failure begins with."""
        found = {**facts, "last_rows": self.rows()[-LAST_ROWS:], "versions": checkpoints.versions()}
        _replace(self.path / "post_mortem.json", json.dumps(finite(found), indent=1))

    def run_id(self) -> str:
        """The name of this run for trackers, made once and kept by a resumed run. Random: runs of one config may be many."""
        path = self.path / RUN_ID
        known = path.read_text(encoding="ascii", errors="replace").strip() if path.is_file() else ""
        if not re.fullmatch(r"[0-9a-f]{16}", known):
            known = secrets.token_hex(8)
            _replace(path, f"{known}\n")
        return known

    def save_checkpoint(self, state: checkpoints.State, facts: dict[str, Any], wait: bool = False) -> Path:
        """Save, then prune to `checkpoint.keep` and `checkpoint.keep_every`; in the background, unless told to `wait`.

        Raises Diverged rather than save a number that is not finite; an OSError of this save, or of the one before.
        """
        path = checkpoints.path_of(self.checkpoints, facts["step"])
        if self._keeping.background and not wait:
            copy = checkpoints.snapshot(state)
            self._saving.start(lambda: self._save(copy, facts))
        else:
            self._saving.wait()
            self._save(state, facts)
        return path

    def newest_checkpoint(self) -> tuple[Checkpoint | None, list[str]]:
        """As `checkpoints.newest`, after what is being saved."""
        self._saving.wait()
        return checkpoints.newest(self.checkpoints)

    def _save(self, state: checkpoints.State, facts: dict[str, Any]) -> None:
        checkpoints.save(self.checkpoints, state, facts)
        checkpoints.prune(self.checkpoints, facts["step"], self._keeping.keep, self._keeping.keep_every)

    def sample_path(self, step: int, suffix: str = "") -> Path:
        """Where a grid of this step goes; `suffix` names a swept code."""
        folder = self.path / "samples"
        folder.mkdir(exist_ok=True)
        return folder / f"step-{step:08d}{suffix and '-'}{suffix}.png"

    @property
    def _metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    def _locked(self) -> Any:
        lock = (self.path / LOCK).open("a+")
        try:
            # the kernel frees it when the process ends, however it ends
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise UserError(
                f"{self.path} is in use by {lock.read().strip() or 'another process'}; wait for it or choose another output"
            ) from error
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        lock.flush()
        return lock

    def _check_unmoved(self, step: int) -> None:
        """Raises UserError where another process has trained here between this one's look at the folder and its lock."""
        for path in checkpoints.folders(self.checkpoints):
            if checkpoints.step_of(path) > step:
                with suppress(checkpoints.Damaged):
                    checkpoints.verify(path)
                    raise UserError(f"{path} has appeared since this command began; give the same command again")

    def _clear_debug_run(self) -> None:
        check_debug_folder(self.path)
        _replace(self.path / DEBUG, "made by train --debug, which clears this folder the next time\n")
        for path in self.path.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name not in (DEBUG, LOCK):
                path.unlink()

    def _cut_metrics(self, step: int) -> None:
        if self._metrics.exists():
            kept = [row for row in self.rows() if row["step"] <= step]
            _replace(self._metrics, "".join(json.dumps(row) + "\n" for row in kept))


def check_debug_folder(path: Path) -> None:
    """Raises UserError where `path` holds anything that no debug run made."""
    holds = path.exists() and any(child.name != LOCK for child in path.iterdir())
    if holds and not (path / DEBUG).is_file():
        raise UserError(f"{path} exists and is no debug run; move it away")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl. What is no row is left out: a torn last line, or what a power cut left in its place.

    Raises UserError where there is such a file and it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is no file; move it away")
    try:
        *lines, _torn = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; mend it or move it away") from error
    rows = [_parsed(line) for line in lines]
    return [row for row in rows if isinstance(row, dict) and isinstance(row.get("step"), int)]


def finite(value: Any) -> Any:
    """The same with null for every number that JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f".tmp-{path.name}")
    partial.write_text(text, encoding="utf-8")
    checkpoints.sync(partial)  # else a power cut may leave the new name with nothing in it
    partial.replace(path)
