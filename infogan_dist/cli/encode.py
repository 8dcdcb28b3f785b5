"""`encode`: the codes of a user's own images."""

from __future__ import annotations

import argparse
import os
from functools import partial

from infogan_dist.cli.arguments import add_checkpoint, path, write_result
from infogan_dist.distributed.launcher import Launch

HELP = "reads the codes of your own images with Q: a table, and a contact sheet of each class"
EXAMPLE = "infogan-dist encode runs/quickstart --images my_digits --out codes.csv --sheet classes.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_checkpoint(parser)
    parser.add_argument(
        "--images",
        required=True,
        type=path,
        metavar="DIR",
        help="a folder of images like those of the training: digits light on black",
    )
    parser.add_argument(
        "--out",
        required=True,
        type=path,
        metavar="FILE.csv",
        help="a row a file: classes, probabilities, continuous codes",
    )
    parser.add_argument(
        "--sheet", type=path, metavar="FILE.png", help="also a row a class: the images Q is surest and least sure of"
    )


def run(options: argparse.Namespace) -> None:
    launch = Launch.from_environment(os.environ)

    from infogan_dist.cli.opening import open_generator
    from infogan_dist.distributed.single_process import processes_of
    from infogan_dist.sampling.captions import in_cells
    from infogan_dist.sampling.encode import check_sheet, contact_sheet, encode, sheet_scale, write_csv
    from infogan_dist.sampling.grids import write_grid
    from infogan_dist.sampling.outputs import STILL, check_file
    from infogan_dist.sampling.recognizer import Recognizer

    def check() -> None:
        check_file(options.out, (".csv",))
        if options.sheet is not None:
            check_file(options.sheet, tuple(STILL), "--sheet")

    def write() -> None:
        write_result(lambda: write_csv(encoded, Q.spec, opened.words.of, options.out), options.out)
        if options.sheet is not None:
            title = f"{opened.title()}: {options.images.name}, {len(encoded.names):,} images"
            images, sheet = contact_sheet(encoded, opened.G, title, opened.words.name)
            drawn, scale = in_cells(images, sheet.cells), sheet_scale(images.shape[-1])
            grid = partial(write_grid, drawn, sheet.columns, options.sheet, sheet.captions, scale)
            write_result(grid, options.sheet, "--sheet")

    with processes_of(launch) as group:
        group.on_main(check)
        opened = open_generator(options.checkpoint)
        if options.sheet is not None:
            check_sheet(opened.G.spec)
        Q = Recognizer.from_pretrained(options.checkpoint).to(group.device)
        encoded = encode(options.images, Q, group.map_batches)
        group.on_main(write)
