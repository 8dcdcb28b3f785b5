"""`select`: the run to keep among several seeds, chosen without labels."""

from __future__ import annotations

import argparse
import os

from infogan_dist.cli.arguments import path
from infogan_dist.distributed.launcher import Launch

HELP = "chooses the run to keep among seeds of one recipe, without labels"
EXAMPLE = "infogan-dist select runs/seed-1 runs/seed-2 runs/seed-3"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", nargs="+", type=path, metavar="RUN", help="at least three runs with the same data and codes"
    )


def run(options: argparse.Namespace) -> None:
    from infogan_dist.evaluation.selection import select

    select(options.runs, Launch.from_environment(os.environ))
