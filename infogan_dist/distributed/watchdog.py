"""Ends a rank that no longer gets on, and says in one line who it is and what it was doing: a hung collective says neither."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable

from infogan_dist.errors import InfoganError


class RankLost(InfoganError):
    """Another rank is gone. Every rank that notices says so: each knows only its own side of it."""

    concerns_one_rank = True


class Watchdog:
    """Ends the process, exit code 1, when `enter` has not been called for `seconds`, after `last_act` with what it says.

    `close` stops it.
    """

    def __init__(self, who: str, seconds: float):
        self.phase = "start"
        self.last_act: Callable[[str], object] = lambda message: None
        self._who, self._seconds, self._since = who, seconds, time.monotonic()
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def enter(self, phase: str) -> None:
        """The process gets on: it now does this."""
        self.phase, self._since = phase, time.monotonic()

    def close(self) -> None:
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(min(1.0, self._seconds / 10)):
            if time.monotonic() - self._since > self._seconds:
                message = (
                    f"{self._who} has stood still for {self._seconds:g} s (processes.timeout) in: {self.phase}; "
                    "it or a rank that it waits for hangs; the same command goes on from the newest checkpoint"
                )
                print(f"\ninfogan-dist: {message}", file=sys.stderr, flush=True)  # below the progress bar
                try:
                    self.last_act(message)
                finally:
                    os._exit(RankLost.exit_code)
