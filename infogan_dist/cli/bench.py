"""`bench`: measures the training step on this machine."""

from __future__ import annotations

import argparse

from infogan_dist.cli.arguments import add_config, add_json, config_and_launch, count, positive
from infogan_dist.errors import UserError

HELP = "measures the training step on this machine"
EXAMPLE = (
    "infogan-dist bench configs/lab6.yaml --project 8 --bandwidth 25 --latency 10\n"
    "         infogan-dist bench configs/mnist.yaml --against 'python other.py --batch 100'"
)
ALTERNATIONS = 5  # of bench --against


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_json(parser)
    parser.add_argument(
        "--against",
        metavar="COMMAND",
        help="compare with this command, in alternation: it prints a JSON line with images_per_second. It is run\n"
        "without a shell, with OMP_NUM_THREADS set to the threads of our step",
    )
    parser.add_argument("--alternations", type=count, metavar="N", help=f"with that command ({ALTERNATIONS})")
    parser.add_argument("--project", type=count, metavar="N", help="predict the step on N processes")
    parser.add_argument("--bandwidth", type=positive, metavar="GB/s", help="bandwidth between the N processes")
    parser.add_argument("--latency", type=positive, metavar="US", help="latency of a message, microseconds")


def run(options: argparse.Namespace) -> None:
    if (options.bandwidth is None) != (options.latency is None):
        raise UserError("--bandwidth and --latency describe one link; set both or neither")
    if options.bandwidth is not None and options.project is None:
        raise UserError("--bandwidth and --latency need a projection; add --project N")
    if options.alternations is not None and options.against is None:
        raise UserError("--alternations needs a command; add --against COMMAND")
    config, launch = config_and_launch(options)

    from infogan_dist.diagnostics.bench import Baseline, BenchOptions, Link, Target, bench

    link = None if options.bandwidth is None else Link(options.bandwidth * 1e9, options.latency * 1e-6)
    target = Target(options.project, link) if options.project else None
    baseline = None
    if options.against is not None:
        baseline = Baseline.parse(options.against, options.alternations or ALTERNATIONS)
    bench(config, launch, BenchOptions(target, baseline, options.json))
