"""What several commands share: a parser that raises our errors, common arguments, and how results are written."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from infogan_dist.distributed.launcher import Launch
from infogan_dist.errors import UserError
from infogan_dist.files import path_problem

if TYPE_CHECKING:
    from infogan_dist.config.schema import Config


class Parser(argparse.ArgumentParser):
    """Raises UserError instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="a YAML file, or the name of a shipped config: quickstart")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="values that replace the file's")


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="a run folder, a checkpoint folder, an exported file or a hub repo"
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=path, metavar="FILE", help="also write the metrics here; - is stdout, last line")


def config_and_launch(options: argparse.Namespace) -> tuple[Config, Launch]:
    """The config of a command and how it was launched, which must share the batch evenly."""
    from infogan_dist.config.reading import load_config

    config = load_config(options.config, options.overrides)
    launch = Launch.from_environment(os.environ)
    launch.check_batch(config.train.global_batch, config.train.accumulate)
    return config, launch


def write_result(write: Callable[[], Any], out: Path, option: str = "--out") -> None:
    """Write a result, making the folders above it, and print its path; UserError where that cannot be done, and nothing is left."""
    missing = [folder for folder in out.parents if not folder.exists()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write()
    except BaseException as error:
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()
        if isinstance(error, OSError):
            raise UserError(f"{option} {out} cannot be written: {error}") from error
        raise
    print(out)


def path(text: str) -> Path:
    """A path that a file can have."""
    problem = path_problem(text)
    if problem is not None:
        raise argparse.ArgumentTypeError(f"the path {problem}")
    return Path(text)


def count(text: str) -> int:
    """An integer from 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a count")
    return int(text)


def port(text: str) -> int:
    """A port to listen on; 0 is any."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port from 0 to 65535")
    return int(text)


def positive(text: str) -> float:
    """A finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value
