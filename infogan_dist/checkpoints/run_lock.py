"""The lock of a run folder: one process at a time writes there. Its file names that process, and says if it is stopping.

Only rank zero uses it.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from infogan_dist.errors import StoppedBySignal, UserError
from infogan_dist.files import open_regular

LOCK = ".lock"
WAIT = 60.0  # seconds that a command waits for a process that is stopping
_STOPPING = "stopping"
_POLL_EVERY = 0.1  # seconds
_ATTEMPTS = 3  # to lock: `holder_of` in another process takes the lock for a moment


@dataclass(frozen=True)
class Holder:
    """The process that writes to a run folder, as named in messages, and whether it is stopping."""

    name: str
    stopping: bool


class RunLock:
    """Locks `folder` until `close` or the end of the process. Raises UserError if another process has the lock."""

    def __init__(self, folder: Path):
        self._file: Any = (folder / LOCK).open("a+", errors="replace")
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                # the kernel releases it when the process ends, even by kill -9
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if attempt == _ATTEMPTS:
                    holder = _read(self._file)
                    remedy = "give the same command again" if holder.stopping else "wait for it"
                    raise UserError(
                        f"{folder} is in use by {_description(holder)}; {remedy} or choose another output"
                    ) from error
                time.sleep(_POLL_EVERY / 2)
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self._file.flush()
        self._stopping = False

    def mark_stopping(self) -> None:
        """Make other commands wait for this process instead of failing. A signal handler may call it."""
        if not self._stopping:
            self._stopping = True
            with suppress(OSError, ValueError):  # a full disk, or closed already
                os.write(self._file.fileno(), f"{_STOPPING}\n".encode())

    def close(self) -> None:
        self._file.close()


def holder_of(folder: Path) -> Holder | None:
    """The process that writes to `folder` now; None if there is none."""
    try:
        with TextIOWrapper(open_regular(folder / LOCK), errors="replace") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _read(file)
    except OSError:
        pass
    return None


def wait_while_stopping(
    folder: Path, seconds: float, announce: Callable[[str], object], interrupted: Callable[[], bool]
) -> None:
    """Wait until no process that is stopping holds the lock of `folder`. A process that is not stopping is not waited for.

    Raises UserError after `seconds`, and StoppedBySignal if `interrupted` returns true.
    """
    deadline, announced = time.monotonic() + seconds, False
    while (holder := holder_of(folder)) is not None and holder.stopping:
        if not announced:
            announce(f"waiting up to {seconds:g} s for {holder.name}, which is stopping, to leave {folder}")
            announced = True
        if interrupted():
            raise StoppedBySignal("stopped by a signal before training; the same command continues")
        if time.monotonic() > deadline:
            raise UserError(
                f"{folder} is in use by {_description(holder)} and did not end within {seconds:g} s; "
                "give the same command again or choose another output"
            )
        time.sleep(_POLL_EVERY)


def _read(file: Any) -> Holder:
    file.seek(0)
    name, *more = file.read(1000).splitlines() or [""]
    return Holder(name.strip() or "another process", _STOPPING in more)


def _description(holder: Holder) -> str:
    return f"{holder.name}, which is stopping" if holder.stopping else holder.name
