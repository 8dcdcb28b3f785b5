"""Work that goes on beside the training: one task at a time, on a thread that touches files alone.

Only the main thread may call collectives, so that a failure waits here until that thread asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Background:
    """Runs one task at a time. A task that failed raises what it raised, once, when it is next asked for."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="saving")
        self._task: Future[object] | None = None

    def start(self, task: Callable[[], object]) -> None:
        """Begin `task` when the one before is done; raises what that one raised."""
        self.wait()
        self._task = self._thread.submit(task)

    def check(self) -> None:
        """Raise what a finished task raised; waits for nothing."""
        if self._task is not None and self._task.done():
            self.wait()

    def wait(self) -> None:
        """Until the task is done; raises what it raised."""
        task, self._task = self._task, None
        if task is not None:
            task.result()
