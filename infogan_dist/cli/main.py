"""Parses the command line, runs one command, and returns the exit code of the contract."""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import infogan_dist
from infogan_dist.cli import COMMANDS
from infogan_dist.cli.arguments import Parser
from infogan_dist.distributed.launcher import prints_messages
from infogan_dist.errors import InfoganError, StoppedBySignal, UserError
from infogan_dist.training.signals import interruptible

SILENT_RANK_WAITS = 3  # seconds: a launcher ends all ranks when the first has failed, also before it has printed why


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code of the contract."""
    _show_warnings()
    try:
        with interruptible(os.environ):  # training has handlers of its own
            options = parse(arguments)
            options.run(options)
    except InfoganError as error:
        _report_to_torchrun(error)
        if prints_messages(os.environ) or error.concerns_one_rank:
            print(f"infogan-dist: {error}", file=sys.stderr, flush=True)
        else:
            time.sleep(SILENT_RANK_WAITS)
        return error.exit_code
    except KeyboardInterrupt:  # but in training, which saves first
        print("infogan-dist: stopped by a signal", file=sys.stderr, flush=True)
        return StoppedBySignal.exit_code
    return 0


def _show_warnings() -> None:
    """Print the package's logged warnings to stderr, on one process of each host."""
    logger = logging.getLogger("infogan_dist")
    if not logger.handlers:
        handler = logging.StreamHandler() if prints_messages(os.environ) else logging.NullHandler()
        handler.setFormatter(logging.Formatter("infogan-dist: %(message)s"))
        logger.addHandler(handler)


def _report_to_torchrun(error: InfoganError) -> None:
    """Leave the message where torchrun's summary of a failure looks for it."""
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if file:
        with suppress(OSError):
            message = {"message": str(error), "extraInfo": {"timestamp": str(int(time.time()))}}
            Path(file).write_text(json.dumps({"message": message}))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of one command; `run` is its call. Raises UserError."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words:
        words = ["--help"]
    if words[0] == "help":
        words = [*words[1:2], "--help"]
    options, rest = _parser().parse_known_args(words)
    dashed = next((word for word in rest if re.fullmatch(r"--?[A-Za-z_]+(\.[A-Za-z_]+)+=.*", word)), None)
    if dashed is not None and hasattr(options, "overrides"):
        raise UserError(f"{dashed}: config keys have no dashes; write {dashed.lstrip('-')}")
    if rest and (not hasattr(options, "overrides") or rest[0].startswith("-")):
        raise UserError(f"unrecognized argument {rest[0]} (see infogan-dist --help)")
    if rest:
        options.overrides += rest  # argparse takes positionals in one place only; ours may stand between options
    return options


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="infogan-dist", description="Train InfoGAN and use what its codes learned.")
    parser.add_argument("--version", action="version", version=f"infogan_dist {infogan_dist.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=Parser)
    for name in COMMANDS:
        command = import_module(f"infogan_dist.cli.{name}")
        added = commands.add_parser(
            name,
            help=command.HELP,
            description=command.HELP,
            epilog="\n".join([*([command.NOTES] if hasattr(command, "NOTES") else []), f"example: {command.EXAMPLE}"]),
            formatter_class=argparse.RawTextHelpFormatter,
        )
        added.set_defaults(run=command.run)
        command.add_arguments(added)
    return parser
