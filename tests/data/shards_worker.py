"""Trains as `infogan-dist` does, with images that stay on the disk: `python -m tests.data.shards_worker train ...`."""

from __future__ import annotations

import sys

from infogan_dist.__main__ import main
from infogan_dist.data import stream

if __name__ == "__main__":
    stream.RESIDENT_SHARE = 0
    sys.exit(main())
