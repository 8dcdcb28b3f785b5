"""Lets one process make several process groups, one after the other."""

from __future__ import annotations

from typing import Any

import torch
from torch.distributed.distributed_c10d import PrefixStore, Store

from infogan_dist.distributed.launcher import Launch

_stores: list[Store] = []  # of the groups that this process has made. The first serves all of them


def next_store(launch: Launch) -> dict[str, Any]:
    """Arguments of `init_process_group` for the next group of this process; none for the first, which makes its store itself.

    After a group is destroyed, torch numbers the next one from 0 again. In the same store the ranks would find the addresses of the
    first group, whose connections are closed, and wait.
    """
    if launch.processes == 1 or not _stores:
        return {}
    store = PrefixStore(f"infogan_dist/group {len(_stores)}", _stores[0])
    return {"store": store, "rank": launch.rank, "world_size": launch.processes}


def keep_store() -> None:
    """Keep the store of the group that was just made, for the next one."""
    if torch.distributed.is_initialized():
        _stores.append(torch.distributed.distributed_c10d._get_default_store())
