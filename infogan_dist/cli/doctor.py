"""`doctor`: finds problems before training starts."""

from __future__ import annotations

import argparse

from infogan_dist.cli.arguments import add_config, config_and_launch

HELP = "checks config, data, networks, disk and ranks without training, and names remedies"
EXAMPLE = (
    "infogan-dist doctor configs/quickstart.yaml\n"
    "         torchrun --nproc-per-node 2 -m infogan_dist doctor configs/quickstart.yaml"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)


def run(options: argparse.Namespace) -> None:
    config, launch = config_and_launch(options)

    from infogan_dist.diagnostics.doctor import doctor

    doctor(config, launch)
