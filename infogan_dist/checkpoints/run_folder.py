"""The run folder: what lies where, who may write to it, and what is written.

Rank zero alone calls these functions.
"""

from __future__ import annotations

import json
import math
import re
import secrets
import shutil
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from infogan_dist.checkpoints import store as checkpoints
from infogan_dist.checkpoints.background import Background
from infogan_dist.checkpoints.run_lock import LOCK, RunLock
from infogan_dist.checkpoints.store import Checkpoint
from infogan_dist.config.reading import dump_config
from infogan_dist.config.schema import Config
from infogan_dist.errors import CannotWrite, StoppedBySignal, UserError
from infogan_dist.files import atomic_write, read_regular

MARKERS = ("DONE", "PREEMPTED", "FAILED")
MEASURED = ("train", "evaluate", "timing")  # the kinds of rows whose values are numbers
METRICS_LIMIT = 2**30  # bytes of metrics.jsonl: about 700,000 rows
DEBUG = "DEBUG"  # the marker of a folder that `train --debug` made and may clear
RUN_ID = "run_id"
LAST_ROWS = 20  # of metrics.jsonl, in a post-mortem


class RunFolder:
    """An open run folder: locked against other writers, with the config recorded and the metrics cut to the checkpoint.

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
            self._lock = RunLock(self.path)
            if debug:
                self._clear_debug_run()
            self._check_unmoved(checkpoint.step if checkpoint else 0)
            for marker in (*MARKERS, *(() if debug else (DEBUG,))):  # a run that continues a debug run is a real run
                (self.path / marker).unlink(missing_ok=True)
            _replace(self.path / "config.yaml", dump_config(config))
            for file in (self._metrics, self._timing):
                _cut(file, checkpoint.step if checkpoint else 0)
            checkpoints.clear(self.checkpoints)
        except OSError as error:
            raise UserError(
                f"output = {self.path} cannot be written to: {error}; repair it or choose another"
            ) from error

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

    def mark_stopping(self) -> None:
        """Let other commands wait for this process's end. A signal handler may call it."""
        self._lock.mark_stopping()

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
                f"{self.path} cannot be written to: {error}; {left} there: free some space, and the same command continues"
            ) from error

    def record(self, kind: str, step: int, images_seen: int, metrics: dict[str, float]) -> None:
        """Append one row of numbers to metrics.jsonl. One that is not finite is written as null."""
        numbers = {key: value if math.isfinite(value) else None for key, value in metrics.items()}
        self.append(kind, step, images_seen, numbers)

    def append(self, kind: str, step: int, images_seen: int, facts: Mapping[str, object]) -> None:
        """Append one row of any facts to metrics.jsonl."""
        _append(self._metrics, {"kind": kind, "step": step, "images_seen": images_seen, **facts})

    def record_timing(self, step: int, images_seen: int, timing: Mapping[str, float]) -> None:
        """Append one row to timing.jsonl."""
        _append(self._timing, {"kind": "timing", "step": step, "images_seen": images_seen, **timing})

    def seconds_spent(self) -> float:
        """The seconds that the run took up to where it resumes."""
        rows = read_metrics(self._timing)
        return float(rows[-1].get("seconds") or 0) if rows else 0.0

    def rows(self) -> list[dict[str, Any]]:
        """Every complete row of metrics.jsonl."""
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
        """Save, then prune to `checkpoint.keep` and `checkpoint.keep_every`; in the background unless `wait`.

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

    @property
    def _timing(self) -> Path:
        return self.path / "timing.jsonl"

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


def check_debug_folder(path: Path) -> None:
    """Raises UserError where `path` holds anything that no debug run made."""
    holds = path.exists() and any(child.name != LOCK for child in path.iterdir())
    if holds and not (path / DEBUG).is_file():
        raise UserError(f"{path} exists and is not a debug run; move it away")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl. What is no row is left out: a torn last line, or what a power cut left in its place.

    Raises UserError where there is such a file and it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is not a file; move it away")
    try:
        *lines, _torn = read_regular(path, METRICS_LIMIT).decode("utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; repair it or move it away") from error
    return [row for row in map(_parsed, lines) if _is_row(row)]


def _is_row(found: Any) -> bool:
    """Whether a line has what every row of ours has, and a row of metrics nothing but numbers and nulls beside it."""
    if not isinstance(found, dict) or not isinstance(found.get("kind"), str):
        return False
    counts = [found.get("step"), found.get("images_seen")]
    if not all(_is_number(count) and isinstance(count, int) and count >= 0 for count in counts):
        return False
    metrics = [value for key, value in found.items() if key != "kind"] if found["kind"] in MEASURED else []
    return all(value is None or _is_number(value) for value in metrics)


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63)


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


def _append(file: Path, row: Mapping[str, object]) -> None:
    with file.open("a", encoding="utf-8") as opened:
        opened.write(json.dumps(row) + "\n")


def _cut(file: Path, step: int) -> None:
    """Drop the rows after `step`, and a torn last line."""
    if file.exists():
        kept = [row for row in read_metrics(file) if row["step"] <= step]
        _replace(file, "".join(json.dumps(row) + "\n" for row in kept))


def _replace(path: Path, text: str) -> None:
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")
