"""Pins the processes of a host to separate cores."""

from __future__ import annotations

import os


class Cores:
    """An equal share of the host's cores for this process.

    Without pinning, the scheduler may wake a process on the core of one that computes, and both are late at the next reduction.
    If the launcher has already given each process its own cores, they are not changed.
    """

    def __init__(self, local_rank: int, local_processes: int, bind: bool):
        """With `bind`, pin this thread and threads that it starts later to the share. On Linux only."""
        self._before: set[int] | None = None
        self.share = os.cpu_count() or 1
        """The number of cores of this process, at least 1."""
        if not hasattr(os, "sched_getaffinity"):
            self.share = max(1, self.share // local_processes)
            return
        available = os.sched_getaffinity(0)
        self.share = len(available)
        if local_processes > 1 and available == _parent_cores():
            self.share = max(1, len(available) // local_processes)
            if bind and len(available) >= local_processes:
                self._before = available
                os.sched_setaffinity(0, share_of(available, local_rank, local_processes))

    def free(self) -> None:
        """Undo the pinning."""
        if self._before is not None:
            os.sched_setaffinity(0, self._before)
            self._before = None


def share_of(cores: set[int], local_rank: int, local_processes: int) -> set[int]:
    """The part of `cores` of one process: adjacent cores, disjoint from those of other processes. Sizes differ by at most one."""
    first, last = (rank * len(cores) // local_processes for rank in (local_rank, local_rank + 1))
    return set(sorted(cores)[first:last])


def _parent_cores() -> set[int]:
    """The cores that the parent process may use; empty if they cannot be read."""
    try:
        return os.sched_getaffinity(os.getppid())
    except OSError:
        return set()
