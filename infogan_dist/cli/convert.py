"""`convert`: a file that samples without the training code."""

from __future__ import annotations

import argparse

from infogan_dist.cli.arguments import add_checkpoint, path, write_result
from infogan_dist.errors import UserError

HELP = "writes something that samples without this package's training code"
EXAMPLE = "infogan-dist convert runs/quickstart --to safetensors --out generator.safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_checkpoint(parser)
    parser.add_argument("--to", required=True, choices=["safetensors"], help="the format to write")
    parser.add_argument("--out", required=True, type=path, help="the file to write")


def run(options: argparse.Namespace) -> None:
    from infogan_dist.checkpoints import store
    from infogan_dist.sampling.generator import Generator

    if options.out.suffix != ".safetensors":
        raise UserError(f"--out {options.out} does not end in .safetensors")
    holder = store.holder(options.out)
    if holder is not None and store.is_checkpoint(holder):
        raise UserError(f"--out {options.out} lies in the checkpoint {holder}; choose a path outside it")
    G = Generator.from_pretrained(options.checkpoint)
    write_result(lambda: G.save(options.out), options.out)
