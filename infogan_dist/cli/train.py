"""`train`: the run, the same command again continues it."""

from __future__ import annotations

import argparse
import os
import sys

from infogan_dist.cli.arguments import add_config, config_and_launch, path
from infogan_dist.distributed.launcher import prints_messages
from infogan_dist.errors import UserError
from infogan_dist.training.progress import LEGEND

HELP = "trains; the same command again continues the run where it stopped"
NOTES = LEGEND
EXAMPLE = "infogan-dist train configs/quickstart.yaml train.steps=500"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--resume", default="auto", metavar="auto|never|CHECKPOINT", help="where to start (auto)")
    parser.add_argument(
        "--init-from",
        type=path,
        metavar="CHECKPOINT",
        help="start a new run from the networks of a checkpoint, with new optimizers; the config may differ",
    )
    parser.add_argument("--debug", action="store_true", help="a tiny checked run on one process, into OUTPUT-debug")
    parser.add_argument("--profile", action="store_true", help="where the time of some steps goes, into OUTPUT/profile")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved config and stop")


def run(options: argparse.Namespace) -> None:
    from infogan_dist.config.reading import dump_config

    config, launch = config_and_launch(options)
    if launch.precision not in (None, config.train.precision) and prints_messages(os.environ):
        print(
            f"infogan-dist: the launcher asks for {launch.precision}; train.precision = {config.train.precision} is used",
            file=sys.stderr,
        )
    if options.dry_run:
        if prints_messages(os.environ):
            print(dump_config(config), end="")
        return

    if options.init_from is not None and options.resume not in ("auto", "never"):
        raise UserError("--init-from starts a new run and --resume CHECKPOINT continues one; give one of them")
    if options.debug and options.init_from is not None:
        raise UserError("--debug checks new networks; give --init-from without it")
    if options.debug and options.profile:
        raise UserError(
            "--debug trains a few checked steps, whose times are not representative; give --profile without it"
        )
    if options.debug:
        from infogan_dist.diagnostics.debug import debug

        debug(config, launch)
    else:
        from infogan_dist.training.loop import train

        train(config, launch, options.resume, options.init_from, options.profile)
