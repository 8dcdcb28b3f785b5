"""`traverse`: how images change with a code, as a picture or a moving one."""

from __future__ import annotations

import argparse
import math
import os
from typing import TYPE_CHECKING

from infogan_dist.cli.arguments import (
    add_checkpoint,
    add_codes,
    add_picture,
    count,
    path,
    seeds,
    write_result,
)
from infogan_dist.distributed.launcher import Launch
from infogan_dist.errors import UserError

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from infogan_dist.cli.opening import Opened
    from infogan_dist.sampling.sheets import Sheet
    from infogan_dist.sampling.traversal import Traversal

HELP = "sweeps codes with the noise and all other codes held, as a picture or a moving one"
EXAMPLE = (
    "infogan-dist traverse runs/mnist --out codes.png\n"
    "one code, moving; two codes as a sheet; a class between two seeds:\n"
    "         infogan-dist traverse runs/mnist --out slant.gif --code continuous_0 --range -2 2\n"
    "         infogan-dist traverse runs/mnist --out sheet.png --code categorical_0 --code continuous_0\n"
    "         infogan-dist traverse runs/mnist --out between.mp4 --seeds 0,1 --set categorical_0=3"
)
VALUES = 10  # of a continuous code in a still picture
FRAMES = 60  # of a moving one
MOST_FRAMES, MOST_IMAGES = 1000, 10_000
LASTS = 3000  # milliseconds of a moving picture, as long as a frame lasts neither less nor more than these
SHORTEST, LONGEST = 40, 500


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_checkpoint(parser)
    parser.add_argument(
        "--out", required=True, type=path, help="FILE.png or .jpg; moving: FILE.gif, .apng, .webp or .mp4"
    )
    parser.add_argument(
        "--code",
        action="append",
        default=[],
        metavar="CODE",
        help="the code to sweep; given twice: a sheet, the first down, the second across (a row for each code)",
    )
    parser.add_argument(
        "--range", nargs=2, type=float, metavar=("LOW", "HIGH"), help="of the continuous codes (-1 1, as in training)"
    )
    parser.add_argument(
        "--frames",
        type=count,
        metavar="N",
        help=f"values of a continuous code, and steps between seeds ({VALUES}; moving: {FRAMES})",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--seed", type=int, default=0, help="another seed, other noise and held codes (0)")
    which.add_argument("--seeds", type=seeds, metavar="A,B", help="let the noise go from seed A to seed B")
    add_codes(parser)
    add_picture(parser)


def run(options: argparse.Namespace) -> None:
    if Launch.from_environment(os.environ).rank:
        return

    from infogan_dist.cli.opening import open_generator
    from infogan_dist.distributed.single_process import SingleProcess
    from infogan_dist.sampling.animation import MOVING, ffmpeg
    from infogan_dist.sampling.grids import draw_all
    from infogan_dist.sampling.outputs import STILL, check_file

    ending = options.out.suffix.lower()
    check_file(options.out, sorted({*STILL, *MOVING}))
    if ending == ".mp4":
        ffmpeg()
    opened = open_generator(options.checkpoint, options.set, options.label)
    swept = _swept(opened, options)
    planned = _planned(opened, swept, options, moving=ending in MOVING)
    if len(planned.latents) > MOST_IMAGES:
        raise UserError(
            f"that is {len(planned.latents)} images, more than {MOST_IMAGES}; lower --frames or choose a --code"
        )
    images = draw_all(opened.G.draw, planned.latents, SingleProcess().map_batches)
    which = f"seeds {', '.join(map(str, options.seeds))}" if options.seeds else f"seed {options.seed}"
    write_result(lambda: _write(images, planned, opened.title(which), options), options.out)


def _swept(opened: Opened, options: argparse.Namespace) -> list[str]:
    """The codes that are swept. Raises UserError for options that contradict each other or would change nothing."""
    from infogan_dist.cli.opening import warn_beyond_training

    spec, most = opened.G.spec, 1 if options.seeds else 2
    if len(options.code) > most or len(set(options.code)) < len(options.code):
        raise UserError(
            f"give --code at most {'once beside --seeds' if options.seeds else 'twice, with different codes'}"
        )
    if options.seeds and len(options.seeds) < 2:
        raise UserError("--seeds goes from one seed to others, such as --seeds 0,1; for one seed give --seed")
    for code, value in opened.held.items():
        if code in options.code:
            raise UserError(f"--code {code} sweeps a code that --set or --class holds; drop one of them")
        if not isinstance(value, (int, float)):
            raise UserError(f"--set {code} takes one value here; --code {code} shows several")
    swept = options.code or ([] if options.seeds else list(spec.code_names))
    continuous = [code for code in swept if code in spec.continuous_names]
    if options.range and not continuous:
        raise UserError("--range is for continuous codes: a categorical code shows all its classes; drop it")
    if options.range and not all(map(math.isfinite, options.range)):
        raise UserError("--range takes two finite numbers")
    if options.frames and options.frames > MOST_FRAMES:
        raise UserError(f"--frames {options.frames} is more than {MOST_FRAMES}")
    if options.frames and not continuous and not options.seeds:
        raise UserError(
            "--frames is for continuous codes and --seeds: a categorical code shows all its classes; drop it"
        )
    if options.range:
        warn_beyond_training(spec, {continuous[0]: options.range})
    return swept


def _planned(opened: Opened, swept: list[str], options: argparse.Namespace, moving: bool) -> Traversal:
    """What is drawn. The first of two codes has no more values in a moving picture than in a still one."""
    import torch

    from infogan_dist.sampling.traversal import all_codes, code_axis, noise_axis, traversal

    G, first = opened.G, torch.zeros(1, dtype=torch.int64)
    low, high = options.range or (-1.0, 1.0)
    count = options.frames or (FRAMES if moving else VALUES)
    held = G.latents_at(first, options.seeds[0] if options.seeds else options.seed, **opened.held)
    if not options.code and not options.seeds:
        return all_codes(G.spec, held, count, (low, high), opened.words.name)
    two = len(swept) + bool(options.seeds) == 2
    counts = [min(count, VALUES) if moving and two else count, count]
    axes = [code_axis(G.spec, code, n, (low, high), opened.words.name) for code, n in zip(swept, counts, strict=False)]
    if options.seeds:
        noises = torch.cat([G.latents_at(first, seed).noise for seed in options.seeds])
        axes.append(noise_axis(G.spec, noises, options.seeds, count))
    return traversal(G.spec, held, axes)


def _write(images: Tensor, planned: Traversal, title: str, options: argparse.Namespace) -> None:
    from infogan_dist.sampling.animation import MOVING, write_animation
    from infogan_dist.sampling.captions import in_cells, picture
    from infogan_dist.sampling.outputs import save_picture

    def drawn(sheet: Sheet) -> Image.Image:
        captions = None if options.plain else sheet.captions
        return picture(in_cells(images, sheet.cells), sheet.columns, captions, options.scale)

    if options.out.suffix.lower() not in MOVING:
        save_picture(drawn(planned.sheet(title)), options.out)
        return
    frames = [drawn(planned.frame(time, title)) for time in range(planned.frames)]
    write_animation(frames, options.out, min(max(LASTS // len(frames), SHORTEST), LONGEST))
