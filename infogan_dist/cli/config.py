"""`config`: the keys of the config."""

from __future__ import annotations

import argparse
import textwrap

from infogan_dist.errors import UserError

HELP = "lists config keys, defaults and meanings"
EXAMPLE = "infogan-dist config optimizer\n         infogan-dist config train.steps"
WIDTH = 100  # characters of a line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", nargs="?", default="", metavar="KEY", help="one key or section; all without it")


def run(options: argparse.Namespace) -> None:
    from infogan_dist.config import yaml_core
    from infogan_dist.config.keys import config_keys, hint, sections

    wanted = options.key.strip(".")
    keys = [key for key in config_keys() if not wanted or key.name == wanted or key.name.startswith(f"{wanted}.")]
    if not keys:
        raise UserError(f"there is no config key {wanted}{hint(wanted)}")
    section = ""
    for key in keys:
        parent = key.name.rpartition(".")[0]
        if parent != section and sections().get(parent):
            section = parent
            print(f"\n{parent}", *textwrap.wrap(sections()[parent], WIDTH - 2), sep="\n  ")
        default = "required" if key.required else yaml_core.dump(_plain(key.default)).removesuffix("\n...\n").strip()
        print(f"\n{key.name} = {default}", *textwrap.wrap(key.meaning, WIDTH - 4), sep="\n    ")


def _plain(value: object) -> object:
    """A default as YAML writes it."""
    if isinstance(value, tuple):
        return [item.model_dump() if hasattr(item, "model_dump") else item for item in value]
    return value
