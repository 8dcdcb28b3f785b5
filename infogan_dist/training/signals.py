"""Stops the run at the end of a step after a signal. A second signal ends the process at once.

The end of accelerate launch or torchrun also stops the run, and never counts as a second signal.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from infogan_dist.distributed.launcher import forwards_signals, has_parent_launcher, prints_messages
from infogan_dist.errors import StoppedBySignal

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
LAUNCHER_ENDED = signal.SIGUSR2  # sent by the kernel; SIGTERM could be mistaken for a user's second signal
FORWARDED_WITHIN = 2.0  # seconds: a signal to torchrun and its processes reaches a process twice
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>
_ADOPTERS = {"init", "systemd", "tini", "dumb-init", "docker-init", "catatonit"}  # never a launcher


class Launcher:
    """The accelerate launch or torchrun that started this process, if any. A shell is not a launcher: `nohup` runs outlive it."""

    def __init__(self, environment: Mapping[str, str]):
        self._process = os.getppid() if has_parent_launcher(environment) else None
        self._ended_before = self._process is not None and _command(self._process) in _ADOPTERS

    def __bool__(self) -> bool:
        return self._process is not None

    @property
    def ended(self) -> bool:
        """Whether the launcher ended before this process. False if only the thread that started this process ended."""
        return self._process is not None and (self._ended_before or os.getppid() != self._process)


@contextmanager
def interruptible(environment: Mapping[str, str]) -> Iterator[None]:
    """Within, SIGTERM and the launcher's end raise KeyboardInterrupt, as Ctrl-C does. The launcher's end is detected on Linux only."""
    launcher = Launcher(environment)

    def launcher_ended(number: int, frame: FrameType | None) -> None:
        if launcher.ended:
            raise KeyboardInterrupt

    handlers: dict[signal.Signals, Any] = {signal.SIGTERM: signal.default_int_handler}
    if launcher:
        handlers[LAUNCHER_ENDED] = launcher_ended
    earlier = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        if launcher:
            send_when_parent_ends(LAUNCHER_ENDED)
            if launcher.ended:  # before the signal was requested
                raise KeyboardInterrupt
        yield
    finally:
        if launcher:
            send_when_parent_ends(0)
        for number, handler in earlier.items():
            signal.signal(number, handler)


class StopRequest:
    """Within, SIGTERM, SIGINT, SIGUSR1 and the launcher's end set `requested` instead of ending the process."""

    def __init__(self) -> None:
        self._requested = False
        self._first_signal: float | None = None
        self._acts: list[Callable[[], object]] = []
        self._earlier: dict[signal.Signals, Any] = {}
        self._launcher = Launcher(os.environ)

    def __enter__(self) -> Self:
        handlers: dict[signal.Signals, Any] = dict.fromkeys(SIGNALS, self._received)
        if self._launcher:
            handlers[LAUNCHER_ENDED] = lambda number, frame: self.requested
        self._earlier = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
        self._acts.clear()

    @property
    def requested(self) -> bool:
        """Whether to stop. Also checks if the launcher has ended, because not every system sends a signal then."""
        if not self._requested and self._launcher.ended:
            self._request("the launcher has ended: stopping after this step")
        return self._requested

    def when_requested(self, act: Callable[[], object]) -> None:
        """Call `act` from the signal handler when a stop is requested, or now if it already was."""
        self._acts.append(act)
        if self._requested:
            act()

    def _received(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._first_signal is not None:
            if forwards_signals(os.environ) and now - self._first_signal < FORWARDED_WITHIN:
                return
            os._exit(StoppedBySignal.exit_code)
        self._first_signal = now
        self._request(f"{signal.Signals(number).name}: stopping after this step; a second signal stops at once")

    def _request(self, reason: str) -> None:
        already, self._requested = self._requested, True
        for act in self._acts:
            act()
        if not already and prints_messages(os.environ):
            with suppress(OSError):  # stderr may be closed; print is not safe, because a signal may interrupt it
                os.write(sys.stderr.fileno(), f"\ninfogan-dist: {reason}\n".encode())


def send_when_parent_ends(number: int) -> None:
    """Have the kernel send signal `number` (0: none) to this process when the thread that started it ends. On Linux only."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_SET_PARENT_DEATH_SIGNAL, int(number), 0, 0, 0)


def _command(process: int) -> str:
    """The name of a process; empty if the system does not provide it."""
    try:
        return Path(f"/proc/{process}/comm").read_text().strip()
    except OSError:
        return ""
