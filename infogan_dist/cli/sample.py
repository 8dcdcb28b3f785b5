"""`sample`: images drawn with the averaged generator."""

from __future__ import annotations

import argparse
import math
import os
from typing import TYPE_CHECKING

from infogan_dist.cli.arguments import (
    add_checkpoint,
    add_codes,
    add_picture,
    columns_and_rows,
    count,
    path,
    seeds,
    write_result,
)
from infogan_dist.distributed.launcher import Launch
from infogan_dist.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from infogan_dist.cli.opening import Opened
    from infogan_dist.latents import Latents
    from infogan_dist.sampling.sheets import Sheet

HELP = "draws images with the averaged generator"
EXAMPLE = (
    "infogan-dist sample runs/quickstart --out class7.png --count 64 --set categorical_0=7\n"
    "seeds as files, and as a grid of 4 columns and 2 rows:\n"
    "         infogan-dist sample runs/quickstart --out images --seeds 0,1,4-6\n"
    "         infogan-dist sample runs/quickstart --out grid.png --grid 4x2 --set categorical_0=1,2\n"
    "a digit rather than a class, once the classes have names:\n"
    "         infogan-dist evaluate runs/quickstart --name-codes\n"
    "         infogan-dist sample runs/quickstart --out sevens.png --digit 7"
)
COUNT = 100
MOST_IN_A_PICTURE = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_checkpoint(parser)
    parser.add_argument(
        "--out",
        required=True,
        type=path,
        help="FILE.png, .jpg or .webp (a grid), FILE.npz (uint8, NHWC) or a name without an ending (a folder of PNGs)",
    )
    parser.add_argument("--count", type=count, metavar="N", help=f"how many images ({COUNT})")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--seed", type=int, default=0, help="another seed, other images (0)")
    which.add_argument("--seeds", type=seeds, metavar="0,1,4-6", help="the first image of each of these seeds")
    parser.add_argument("--grid", type=columns_and_rows, metavar="4x2", help="a picture of 4 columns and 2 rows")
    add_codes(parser, lists=True)
    add_picture(parser)


def run(options: argparse.Namespace) -> None:
    launch = Launch.from_environment(os.environ)

    from infogan_dist.cli.opening import open_generator
    from infogan_dist.distributed.single_process import processes_of
    from infogan_dist.sampling.grids import draw_all
    from infogan_dist.sampling.outputs import check_out

    _check(options)
    with processes_of(launch) as group:
        group.on_main(lambda: check_out(options.out))
        opened = open_generator(options.checkpoint, options.set, options.label)
        opened.G.network.to(group.device)
        latents = _latents(opened, options)
        images = draw_all(opened.G.draw, latents, group.map_batches)
        group.on_main(lambda: write_result(lambda: _write(images, latents, opened, options), options.out))


def _check(options: argparse.Namespace) -> None:
    """Raises UserError for options that contradict each other; fills in how many images there are."""
    from infogan_dist.sampling.outputs import is_picture

    picture, room = is_picture(options.out), math.prod(options.grid or ())
    given = len(options.seeds) if options.seeds else options.count
    if options.seeds and options.count:
        raise UserError("--seeds draws one image for each seed; drop --count")
    if options.grid and not picture:
        raise UserError(f"--grid is for pictures, and --out {options.out} is not one; drop it")
    if options.grid and given and given > room:
        raise UserError(f"--grid {options.grid[0]}x{options.grid[1]} has no room for {given} images")
    if options.scale and options.out.suffix.lower() == ".npz":
        raise UserError("--scale enlarges pictures; an .npz holds the images as they are: drop it")
    options.count = given or (room if options.grid else COUNT)
    if picture and options.count > MOST_IN_A_PICTURE:
        raise UserError(
            f"a picture of {options.count} images is too large to look at; write an .npz or a folder, or {MOST_IN_A_PICTURE}"
        )


def _latents(opened: Opened, options: argparse.Namespace) -> Latents:
    """Of image i of the seed, or of the first image of each seed; a list of `--set` is repeated along them."""
    import torch

    from infogan_dist.latents import Latents

    G, positions = opened.G, torch.arange(options.count)
    if not options.seeds:
        return G.latents_at(positions, options.seed, **opened.held)
    firsts = Latents.joined([G.latents_at(positions[:1], seed) for seed in options.seeds])
    return Latents(firsts.noise, G.spec.with_values(firsts.codes, opened.held, positions))


def _write(images: Tensor, latents: Latents, opened: Opened, options: argparse.Namespace) -> None:
    from infogan_dist.sampling.captions import in_cells
    from infogan_dist.sampling.grids import write_grid
    from infogan_dist.sampling.outputs import ARRAY_ENDING, is_picture, write_array, write_folder

    out = options.out
    if out.suffix.lower() == ARRAY_ENDING:
        write_array(images, out)
    elif not is_picture(out):
        digits = max(5, len(str(len(images) - 1)))
        numbers = [f"{number:0{digits}d}" for number in range(len(images))]
        write_folder(images, out, [f"seed{seed:04d}" for seed in options.seeds or ()] or numbers, options.scale or 1)
    elif options.plain:
        columns = options.grid[0] if options.grid else math.ceil(math.sqrt(len(images)))
        write_grid(images, columns, out, scale=options.scale)
    else:
        sheet = _sheet(latents, opened, options)
        write_grid(in_cells(images, sheet.cells), sheet.columns, out, sheet.captions, options.scale)


def _sheet(latents: Latents, opened: Opened, options: argparse.Namespace) -> Sheet:
    """Seeds by name; else sorted by the class of the code that has names, or of the first, where several classes are drawn."""
    from infogan_dist.sampling.sheets import in_order, rows_by_class, sorted_by_class

    names = opened.G.spec.categorical_names
    square = min(math.ceil(math.sqrt(len(latents))), len(latents))
    columns = options.grid[0] if options.grid else square
    if options.seeds:
        return in_order(len(latents), columns, opened.title(), [f"seed {seed}" for seed in options.seeds])
    title, words = opened.title(f"seed {options.seed}"), opened.words
    code = words.code if words.code in names else names[0] if names else ""
    classes = latents.codes.categorical[:, names.index(code)].tolist() if code else []
    if len(set(classes)) < 2:
        return in_order(len(latents), columns, title)
    if options.grid:
        return sorted_by_class(classes, columns, title, lambda number: words.of(code, number) or f"class {number}")
    return rows_by_class(classes, code, title, lambda number: words.name(code, number))
