"""Which cores of a host a process computes on: processes that share a host keep out of each other's way."""

from __future__ import annotations

import os


class Cores:
    """The cores of this process. Where `local_processes` were started alike, it keeps to an equal share of them until `free`.

    A process that wakes from waiting for the others may be put on the core of one that computes, and both then wait at the next
    reduction: two processes lost 3 % of a step of 1.6 s so, and 7 % of one of 0.6 s.
    A launcher that gave each process cores of its own is left its choice.
    """

    def __init__(self, local_rank: int, local_processes: int, bind: bool):
        """With `bind` this thread, and those it starts from now on, stay on the share. Nowhere but on Linux."""
        self._before: set[int] | None = None
        self.share = os.cpu_count() or 1
        """How many cores this process may count as its own, at least 1."""
        if not hasattr(os, "sched_getaffinity"):
            self.share = max(1, self.share // local_processes)
            return
        mine = os.sched_getaffinity(0)
        self.share = len(mine)
        if local_processes > 1 and mine == _cores_of_parent():
            self.share = max(1, len(mine) // local_processes)
            if bind and len(mine) >= local_processes:
                self._before = mine
                os.sched_setaffinity(0, share_of(mine, local_rank, local_processes))

    def free(self) -> None:
        """Back to the cores from before."""
        if self._before is not None:
            os.sched_setaffinity(0, self._before)
            self._before = None


def share_of(cores: set[int], local_rank: int, local_processes: int) -> set[int]:
    """Neighbouring cores, as many as any other process gets or one more; all of them together are `cores`."""
    first, last = (rank * len(cores) // local_processes for rank in (local_rank, local_rank + 1))
    return set(sorted(cores)[first:last])


def _cores_of_parent() -> set[int]:
    """Those that the launcher itself may use; empty where it cannot be asked."""
    try:
        return os.sched_getaffinity(os.getppid())
    except OSError:
        return set()
