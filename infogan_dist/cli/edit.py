"""`edit`: a code of a real image changed."""

from __future__ import annotations

import argparse
import os

from infogan_dist.cli.arguments import add_checkpoint, add_codes, add_picture, path, write_result
from infogan_dist.distributed.launcher import Launch
from infogan_dist.errors import UserError

HELP = "changes a code of a real image: infers its codes and noise, and draws it again"
EXAMPLE = "infogan-dist edit runs/quickstart --image digit.png --set categorical_0=3 --out edited.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_checkpoint(parser)
    parser.add_argument("--image", required=True, type=path, metavar="FILE", help="an image like those of the training")
    parser.add_argument(
        "--out", required=True, type=path, help="FILE.png, .jpg or .webp: original, reconstruction, edited"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="another seed, other starts of the search for the noise (0)"
    )
    add_codes(parser)
    add_picture(parser)


def run(options: argparse.Namespace) -> None:
    if Launch.from_environment(os.environ).rank:
        return
    if not options.image.is_file():
        raise UserError(f"there is no image {options.image}")
    if not options.set and options.label is None:
        raise UserError("give the code to change, such as --set categorical_0=3")

    import torch

    from infogan_dist.cli.opening import open_generator
    from infogan_dist.data.folder import read_image
    from infogan_dist.data.sources import scaled
    from infogan_dist.sampling.captions import Captions
    from infogan_dist.sampling.edit import edit
    from infogan_dist.sampling.grids import to_uint8, write_grid
    from infogan_dist.sampling.outputs import STILL, check_file
    from infogan_dist.sampling.recognizer import Recognizer

    check_file(options.out, tuple(STILL))
    torch.set_num_threads(1)  # threads would wait for each other longer than they compute a few images
    opened = open_generator(options.checkpoint, options.set, options.label)
    Q = Recognizer.from_pretrained(options.checkpoint)
    image = scaled(read_image(options.image, Q.config.data))
    edited = edit(opened.G, Q, image, opened.held, options.seed)
    images = to_uint8(torch.cat([edited.original, edited.reconstruction, edited.edited]))
    names = [
        "original",
        f"reconstruction\n{opened.codes_in_words(edited.latents.codes, opened.held)}",
        f"edited\n{opened.codes_in_words(edited.edited_latents.codes, opened.held)}",
    ]
    captions = None if options.plain else Captions(f"{options.image.name}, by {opened.origin}", cells=names)
    write_result(lambda: write_grid(images, len(images), options.out, captions, options.scale), options.out)
