"""`init`: a config for a folder of images."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path

from infogan_dist.cli.arguments import count, path, write_result
from infogan_dist.distributed.launcher import Launch
from infogan_dist.errors import UserError

HELP = "looks at a folder of images and writes a commented config that trains on it"
EXAMPLE = (
    "infogan-dist init IMAGES --out mine.yaml\n"
    "         infogan-dist train mine.yaml\n"
    "         infogan-dist evaluate runs/mine --name-codes"
)
NOTES = "Images in subfolders: one class for each, and `evaluate` compares classes with the names of the subfolders."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", type=path, help="a folder of images, at any depth")
    parser.add_argument(
        "--out", type=path, metavar="FILE.yaml", help="the config, by default FOLDER.yaml; a contact sheet is beside it"
    )
    parser.add_argument(
        "--classes", type=count, metavar="K", help="classes to find; by default one for each subfolder, or 10"
    )


def run(options: argparse.Namespace) -> None:
    """One process looks; others return at once."""
    if Launch.from_environment(os.environ).rank:
        return

    import torch

    from infogan_dist.config import yaml_core
    from infogan_dist.config.model import DataConfig
    from infogan_dist.config.reading import parse_config
    from infogan_dist.diagnostics.contact_sheet import write_contact_sheet
    from infogan_dist.diagnostics.doctor import doctor
    from infogan_dist.diagnostics.first_config import Choices, first_config, run_name
    from infogan_dist.diagnostics.folder_look import FolderLook
    from infogan_dist.files import atomic_write

    folder: Path = options.folder
    out: Path = options.out or Path(f"{run_name(folder)}.yaml")
    sheet = out.with_name(f"{out.stem}-images.png")
    check_outputs(out, sheet)
    if options.classes == 1:
        raise UserError("--classes 1 leaves nothing to tell apart; give at least 2")
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; give the folder of images")
    root, name = str(folder), run_name(Path(out.stem))
    look = FolderLook.of(DataConfig(name="folder", root=root), show_progress=True)
    choices = Choices.of(look, root, options.classes, torch.cuda.is_available())
    text = first_config(choices, root, name, f"infogan-dist init {shlex.quote(root)}")
    config = parse_config(yaml_core.load(text, str(out)))
    doctor(config, Launch.from_environment({}))

    def write() -> None:
        with atomic_write(out) as partial:
            partial.write_text(text, encoding="utf-8")

    write_result(lambda: write_contact_sheet(look, config.data, sheet), sheet)
    write_result(write, out)
    print(f"next: infogan-dist train {shlex.quote(str(out))}")
    print(f"then: infogan-dist evaluate {config.output} --name-codes")
    print(f"      infogan-dist encode {config.output} --images {shlex.quote(root)} --out codes.csv --sheet classes.png")


def check_outputs(out: Path, sheet: Path) -> None:
    """Raises UserError where the config is not a new .yaml file or the contact sheet would replace a file."""
    if out.suffix not in (".yaml", ".yml"):
        raise UserError(f"--out {out} does not end in .yaml")
    for each in (out, sheet):
        if each.exists():
            raise UserError(f"{each} exists; give another file with --out, or remove it")
