"""`evaluate`: scores of codes and images on test images."""

from __future__ import annotations

import argparse
import os

from infogan_dist.cli.arguments import add_json, path
from infogan_dist.distributed.launcher import Launch

HELP = "scores the codes and images of checkpoints on test images"
EXAMPLE = (
    "infogan-dist evaluate runs/quickstart --name-codes\n"
    "         torchrun --nproc-per-node 2 -m infogan_dist evaluate runs/quickstart --json figures.json\n"
    "several seeds, in one table with their median, range and failures (code error over 8 %):\n"
    "         for seed in 1 2 3 4 5; do\n"
    "           infogan-dist train configs/quickstart.yaml seed=$seed output=runs/seed-$seed\n"
    "         done\n"
    "         infogan-dist evaluate runs/seed-* --controls"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoints", nargs="+", type=path, metavar="CHECKPOINT", help="run folders or checkpoint folders"
    )
    parser.add_argument("--data", metavar="NAME", help="other data than the run's own, such as mnist")
    parser.add_argument("--root", metavar="DIR", help="where the data lies, if not where the run had it")
    add_json(parser)
    parser.add_argument(
        "--controls", action="store_true", help="beside them: k-means on pixels, random codes, a single class"
    )
    parser.add_argument(
        "--name-codes",
        action="store_true",
        help="keep the matching of classes and digits in the run folder: `sample RUN --digit 7` then works",
    )


def run(options: argparse.Namespace) -> None:
    from infogan_dist.evaluation.command import EvaluateOptions, evaluate

    evaluate_options = EvaluateOptions(
        paths=tuple(options.checkpoints),
        data=options.data,
        root=options.root,
        controls=options.controls,
        name_codes=options.name_codes,
        out=options.json,
    )
    evaluate(evaluate_options, Launch.from_environment(os.environ))
