"""One background task at a time, on a thread that only writes files.

Only the main thread may call collectives, so a failure is kept until that thread asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Background:
    """Runs one task at a time. The next call of a method raises the exception of a failed task, once."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="saving")
        self._task: Future[object] | None = None

    def start(self, task: Callable[[], object]) -> None:
        """Wait for the previous task, raise its exception if it failed, and start `task`."""
        self.wait()
        self._task = self._thread.submit(task)

    def check(self) -> None:
        """Raise the exception of a task that has failed. Does not wait."""
        if self._task is not None and self._task.done():
            self.wait()

    def wait(self) -> None:
        """Wait for the task and raise its exception if it failed."""
        task, self._task = self._task, None
        if task is not None:
            task.result()
