"""tests/distributed_worker.py for processes that share one GPU: over gloo, because NCCL refuses two processes on one GPU."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

from accelerate import PartialState

from infogan_dist.distributed import group
from tests.distributed_worker import main

if __name__ == "__main__":
    if os.environ.get("WORLD_SIZE", "1") != "1":
        group.PartialState = partial(PartialState, backend="gloo")  # type: ignore[attr-defined,misc]
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
