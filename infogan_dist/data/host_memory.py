"""Memory of this host: how much is free, the peak of this process, and an allocator setting that saves time."""

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
    """Have the C library keep freed memory for later allocations.

    glibc returns large tensors to the system, which clears every page again in the next step: 3 to 23 % of a step on a CPU.
    Other allocators keep freed memory and lack this setting.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(M_MMAP_MAX, 0)
        set_option(M_TRIM_THRESHOLD, NEVER)


def release_freed_memory() -> None:
    """Have the C library return kept memory to the system once. Call it where much was freed that a step does not need."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def resident_bytes() -> int:
    """Resident memory of this process now, in bytes, including the code of its libraries. Where the system does not report it, such
    as macOS, the peak."""
    try:
        return int((PROC / "self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return peak_bytes()


def bytes_in_use(device: torch.device) -> int:
    """Bytes of `device` that this process uses now: its resident memory, or on a GPU what torch allocated."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else resident_bytes()


def free_bytes(device: torch.device) -> int:
    """Free memory of `device`, in bytes. On the CPU the limits of containers and batch jobs apply.

    On systems that do not report free memory, such as macOS, the total memory.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    own = _control_group()
    groups = [group for group in (own, *own.parents) if group.is_relative_to(CGROUPS)] if own else []
    limits = [_available_in(group) for group in groups]
    return min([_available(), *(each for each in limits if each is not None)])


def peak_bytes() -> int:
    """Peak resident memory of this process, in bytes, including the code of its libraries."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * KIBIBYTE


def _available() -> int:
    with suppress(OSError):
        for line in (PROC / "meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return KIBIBYTE * int(line.split()[1])
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _control_group() -> Path | None:
    """The control group (v2) of this process; None on systems without control groups."""
    try:
        return CGROUPS / (PROC / "self/cgroup").read_text().rpartition("0::")[2].strip().lstrip("/")
    except OSError:
        return None


def _available_in(group: Path) -> int | None:
    """Bytes that a control group (v2) may still allocate, cached files not counted; None if it has no limit."""
    try:
        limit = (group / "memory.max").read_text().strip()
        used = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except OSError:
        return None
    return None if limit == "max" else max(0, int(limit) - int(used["anon"]))
