"""Shared by the commands: a parser that raises UserError, common arguments, and writing of results."""

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

MOST_SEEDS = 10_000  # of one command


class Parser(argparse.ArgumentParser):
    """Raises UserError instead of exiting."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="a YAML file, or the name of a shipped config: quickstart")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="values that replace the file's")


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="a run folder, a checkpoint folder, an exported file or a hub repo"
    )


def add_codes(parser: argparse.ArgumentParser, lists: bool = False) -> None:
    """`--set` and `--class`, which `held_codes` reads."""
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="CODE=VALUE",
        help="hold a code at a value" + ("; CODE=1,2,3 cycles through values" if lists else ""),
    )
    parser.add_argument(
        "--class",
        "--digit",
        dest="label",
        metavar="NAME",
        help="draw the class of this name, or this digit; the codes need names: evaluate --name-codes",
    )


def add_picture(parser: argparse.ArgumentParser) -> None:
    """`--scale` and `--plain`."""
    parser.add_argument(
        "--scale", type=count, metavar="N", help="draw each pixel as N x N pixels; by default enough for the text"
    )
    parser.add_argument("--plain", action="store_true", help="pixels only, without text, lines and sorting")


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=path, metavar="FILE", help="also write the metrics here; - is stdout, last line")


def config_and_launch(options: argparse.Namespace) -> tuple[Config, Launch]:
    """The config and the launch of a command. Raises UserError where the processes do not divide the global batch."""
    from infogan_dist.config.reading import load_config

    config = load_config(options.config, options.overrides)
    launch = Launch.from_environment(os.environ)
    launch.check_batch(config.train.global_batch, config.train.accumulate)
    return config, launch


def write_result(write: Callable[[], Any], out: Path, option: str = "--out") -> None:
    """Call `write`, which writes `out`, after creating its parent folders, and print the path.

    Raises UserError where it fails, and removes the folders that it created.
    """
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


def setting(text: str) -> tuple[str, float | list[float]]:
    """The name and the value, or list of values, of a `--set`. Raises UserError."""
    name, _, values = text.partition("=")
    try:
        numbers = [float(value) for value in values.split(",")]
    except ValueError:
        raise UserError(
            f"--set {text} is not of the form CODE=NUMBER or CODE=NUMBER,NUMBER, such as categorical_0=7"
        ) from None
    return name, numbers if len(numbers) > 1 else numbers[0]


def seeds(text: str) -> list[int]:
    """A list of seeds and ranges of seeds, such as 0,1,4-6."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise argparse.ArgumentTypeError(f"{part!r} is not a seed or a range of seeds, such as 0,1,4-6")
        found += range(int(first), min(int(last), int(first) + MOST_SEEDS) + 1) if dash else [int(first)]
        if len(found) > MOST_SEEDS:
            raise argparse.ArgumentTypeError(f"more than {MOST_SEEDS} seeds")
    return found


def columns_and_rows(text: str) -> tuple[int, int]:
    """A grid such as 4x2: 4 columns, 2 rows."""
    columns, _, rows = text.partition("x")
    try:
        return count(columns), count(rows)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text} is not COLUMNSxROWS, such as 4x2") from None


def path(text: str) -> Path:
    """A valid path."""
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
