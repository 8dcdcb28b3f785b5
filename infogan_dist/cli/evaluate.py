"""`evaluate`: measures codes and images of checkpoints."""

from __future__ import annotations

import argparse
import os

from infogan_dist.cli.arguments import add_json, path
from infogan_dist.distributed.launcher import Launch

HELP = "measures the codes and images of checkpoints on test images"
EXAMPLE = (
    "infogan-dist evaluate runs/quickstart --name-codes\n"
    "         torchrun --nproc-per-node 2 -m infogan_dist evaluate runs/quickstart --json metrics.json\n"
    "several seeds in one table, with median, range and failures (code error over 8 %):\n"
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
    parser.add_argument("--root", metavar="DIR", help="the folder of the data, if it is not the run's")
    add_json(parser)
    parser.add_argument(
        "--controls",
        action="store_true",
        help="also score predictions without an InfoGAN: clusterings, random codes; and probes trained with labels",
    )
    parser.add_argument(
        "--supervised",
        action="store_true",
        help="also train FE and Q with labels or known factors, from initial weights: a ceiling for the codes, in minutes",
    )
    parser.add_argument(
        "--clustering",
        action="store_true",
        help="also train FE and Q by clustering alone, without a GAN and without labels: a control, in many minutes",
    )
    parser.add_argument(
        "--averaged", action="store_true", help="also score Q averaged over 16 augmented copies of each test image"
    )
    parser.add_argument(
        "--refined",
        action="store_true",
        help="score the FE and Q that `refine RUN` fitted, not those of the checkpoint",
    )
    parser.add_argument(
        "--name-codes",
        action="store_true",
        help="save the label of each class in the run folder, so that `sample RUN --digit 7` or `--class NAME` works",
    )


def run(options: argparse.Namespace) -> None:
    from infogan_dist.evaluation.command import EvaluateOptions, evaluate

    evaluate_options = EvaluateOptions(
        paths=tuple(options.checkpoints),
        data=options.data,
        root=options.root,
        controls=options.controls,
        supervised=options.supervised,
        clustering=options.clustering,
        averaged=options.averaged,
        refined=options.refined,
        name_codes=options.name_codes,
        out=options.json,
    )
    evaluate(evaluate_options, Launch.from_environment(os.environ))
