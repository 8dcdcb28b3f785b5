"""The memory of this host: how much is left for us, and that what we freed stays ours."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch

CGROUPS = Path("/sys/fs/cgroup")
PROC = Path("/proc")
KIBIBYTE = 1024  # Linux's unit in /proc/meminfo and getrusage; macOS gives bytes
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h
NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Have the C library keep what is freed for what is allocated next.

    glibc hands large tensors back to the system, which clears every page again at the next step: 3 to 23 % of a step on a CPU.
    Other allocators keep what they have and lack this setting.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(M_MMAP_MAX, 0)
        set_option(M_TRIM_THRESHOLD, NEVER)


def free_bytes(device: torch.device) -> int:
    """Memory that is free on `device`; on the CPU at most what a container or a batch job may still take.

    Where the system does not say what is free, as macOS, all of its memory.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    ours = _control_group()
    groups = [group for group in (ours, *ours.parents) if group.is_relative_to(CGROUPS)] if ours else []
    left = [_left_in(group) for group in groups]
    return min([_available(), *(each for each in left if each is not None)])


def peak_bytes() -> int:
    """The most memory that this process held so far, the code of its libraries included."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * KIBIBYTE


def _available() -> int:
    with suppress(OSError):
        for line in (PROC / "meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return KIBIBYTE * int(line.split()[1])
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _control_group() -> Path | None:
    """The one (v2) that this process is in; None on systems without them."""
    try:
        return CGROUPS / (PROC / "self/cgroup").read_text().rpartition("0::")[2].strip().lstrip("/")
    except OSError:
        return None


def _left_in(group: Path) -> int | None:
    """What a control group (v2) may still take, the files it caches not counted; None where it has no limit."""
    try:
        limit = (group / "memory.max").read_text().strip()
        taken = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except OSError:
        return None
    return None if limit == "max" else max(0, int(limit) - int(taken["anon"]))
