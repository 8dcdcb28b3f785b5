"""`sample`: images drawn with the averaged generator."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from infogan_dist.cli.arguments import add_checkpoint, count, path, write_result
from infogan_dist.distributed.launcher import Launch
from infogan_dist.errors import UserError

if TYPE_CHECKING:
    from infogan_dist.sampling.generator import Generator

HELP = "draws images with the averaged generator"
EXAMPLE = (
    "infogan-dist sample runs/quickstart --out class7.png --count 64 --set categorical_0=7\n"
    "a digit rather than a class, once the classes have names:\n"
    "         infogan-dist evaluate runs/quickstart --name-codes\n"
    "         infogan-dist sample runs/quickstart --out sevens.png --digit 7"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_checkpoint(parser)
    parser.add_argument(
        "--out",
        required=True,
        type=path,
        help="FILE.png, .jpg or .webp (a grid), FILE.npz (uint8, NHWC) or a name without an ending (a folder of PNGs)",
    )
    parser.add_argument("--count", type=count, default=100, help="how many images (100)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other images (0)")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="CODE=VALUE", help="hold a code at a value"
    )
    parser.add_argument(
        "--digit", type=int, metavar="D", help="draw this digit; the codes need names: evaluate --name-codes"
    )


def run(options: argparse.Namespace) -> None:
    from infogan_dist.sampling.batches import batches_of
    from infogan_dist.sampling.generator import Generator
    from infogan_dist.sampling.grids import check_out, to_uint8, write_images

    launch = Launch.from_environment(os.environ)
    if launch.processes == 1:
        check_out(options.out)
    G = Generator.from_pretrained(options.checkpoint)
    codes, names = _held(options, G)
    if launch.processes == 1:
        images = to_uint8(G.sample(options.count, seed=options.seed, **codes))
        write_result(lambda: write_images(images, options.out, names), options.out)
        return

    from infogan_dist.config.running import ProcessesConfig
    from infogan_dist.distributed.group import Group

    with Group(launch, "auto", ProcessesConfig()) as group:
        group.on_main(lambda: check_out(options.out))
        G.network.to(group.device)
        drawn = group.map_batches(
            batches_of(options.count), lambda ours: to_uint8(G.images_at(ours, options.seed, **codes))
        )
        images = drawn[: options.count].cpu()
        group.on_main(lambda: write_result(lambda: write_images(images, options.out, names), options.out))


def _held(options: argparse.Namespace, G: Generator) -> tuple[dict[str, float], list[str]]:
    """The codes that `sample` holds; and the digit of each image of a grid, where the codes have names."""
    from infogan_dist.sampling.grids import is_grid

    codes = dict(_code(setting) for setting in options.set)
    if options.digit is None and not is_grid(options.out):
        return codes, []

    import torch

    from infogan_dist.evaluation.code_names import held_by, names_of

    names = names_of(Path(options.checkpoint))
    if options.digit is not None:
        codes = held_by(names, options.digit, codes, options.checkpoint)
    if names is None or names.code not in G.spec.categorical_names:
        return codes, []
    drawn = G.latents_at(torch.arange(options.count), options.seed, **codes).codes.categorical
    return codes, names.of(drawn[:, G.spec.categorical_names.index(names.code)])


def _code(setting: str) -> tuple[str, float]:
    name, _, value = setting.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise UserError(f"--set {setting} is not of the form CODE=NUMBER, such as categorical_0=7") from None
