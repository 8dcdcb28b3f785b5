"""How much memory a device has left for us."""

from __future__ import annotations

from pathlib import Path

import torch

CGROUPS = Path("/sys/fs/cgroup")


def free_bytes(device: torch.device) -> int:
    """Memory that is free on `device`; on the CPU at most what a container or a batch job may still take."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    ours = CGROUPS / Path("/proc/self/cgroup").read_text().rpartition("0::")[2].strip().lstrip("/")
    left = [_left_in(group) for group in (ours, *ours.parents) if group.is_relative_to(CGROUPS)]
    return min([available, *(each for each in left if each is not None)])


def _left_in(group: Path) -> int | None:
    """What a control group (v2) may still take, the files it caches not counted; None where it has no limit."""
    try:
        limit = (group / "memory.max").read_text().strip()
        taken = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except OSError:
        return None
    return None if limit == "max" else max(0, int(limit) - int(taken["anon"]))
