"""A signal asks the run to stop at the end of a step; a second one stops the process at once."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType, TracebackType
from typing import Any, Self

from infogan_dist.distributed.launcher import speaks
from infogan_dist.errors import StoppedBySignal

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopRequest:
    """Within it, SIGTERM, SIGINT and SIGUSR1 set `requested` instead of ending the process."""

    def __init__(self) -> None:
        self.requested = False
        self._earlier: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._earlier = {number: signal.signal(number, self._received) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def _received(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            os._exit(StoppedBySignal.exit_code)
        self.requested = True
        if speaks(os.environ):
            said = f"\ninfogan-dist: {signal.Signals(number).name}: stopping after this step; a second signal stops at once\n"
            os.write(sys.stderr.fileno(), said.encode())  # print is not safe here: it may be what was interrupted
