"""Ends a rank that makes no progress and prints its name and phase. A hung collective prints neither."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable

from infogan_dist.errors import InfoganError


class RankLost(InfoganError):
    """Another rank is gone. Every rank that notices prints it, because each one knows only its own phase."""

    concerns_one_rank = True


class Watchdog:
    """Ends the process with exit code 1 if `enter` has not been called for `seconds`. First it prints a message and passes it to
    `on_hang`. `close` stops the watchdog.
    """

    def __init__(self, who: str, seconds: float):
        self.phase = "start"
        self.on_hang: Callable[[str], object] = lambda message: None
        self._who, self._seconds, self._since = who, seconds, time.monotonic()
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def enter(self, phase: str) -> None:
        """Report progress: the process enters `phase`."""
        self.phase, self._since = phase, time.monotonic()

    def close(self) -> None:
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(min(1.0, self._seconds / 10)):
            if time.monotonic() - self._since > self._seconds:
                message = (
                    f"{self._who} has made no progress for {self._seconds:g} s (processes.timeout) in: {self.phase}; "
                    "it or a rank that it waits for hangs; the same command continues from the newest checkpoint"
                )
                print(f"\ninfogan-dist: {message}", file=sys.stderr, flush=True)  # below the progress bar
                try:
                    self.on_hang(message)
                finally:
                    os._exit(RankLost.exit_code)
