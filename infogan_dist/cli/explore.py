"""`explore`: the page on which one draws, and the network reads and redraws."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from infogan_dist.cli.arguments import path, port, write_result
from infogan_dist.errors import UserError

if TYPE_CHECKING:
    from infogan_dist.export.page.build import Packed
    from infogan_dist.export.page.model import Model

HELP = "serves or writes a page where one draws: Q reads it, G redraws it as every class"
EXAMPLE = (
    "infogan-dist explore runs/quickstart\n"
    "         infogan-dist explore runs/quickstart --html page.html\n"
    "         infogan-dist explore runs/quickstart --space my-space"
)
PORT = 8000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=path, help="a run folder or a checkpoint folder")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--port", type=port, default=PORT, help=f"of the served page; 0 for any that is free ({PORT})")
    where.add_argument("--html", type=path, metavar="FILE.html", help="write the page instead: one file, offline")
    where.add_argument("--space", type=path, metavar="FOLDER", help="write it as a static Hugging Face Space")


def run(options: argparse.Namespace) -> None:
    from infogan_dist.export.page import write
    from infogan_dist.export.page.build import page
    from infogan_dist.export.page.model import Model
    from infogan_dist.export.page.server import Computer, Server

    html, space = options.html, options.space
    if html is not None:
        write.check_html(html)
    if space is not None:
        write.check_space(space)
    model = Model.load(options.checkpoint)
    networks = _packed(model, serves=html is None and space is None)
    content = page(model, networks)
    size = f"{len(content.encode()) / 1e6:.1f} MB"
    if networks is None:
        computer = Computer(model)
        cost = f"{size}, about {computer.milliseconds:.1f} ms an image by Python"
    else:
        computer = None
        cost = f"{size}, about {max(networks.milliseconds, 0.1):.1f} ms an image in a browser"
    if html is not None:
        write_result(lambda: write.write_html(content, html), html, "--html")
    elif space is not None:
        write_result(lambda: write.write_space(content, model, space), space, "--space")
    else:
        server = Server(options.port, content, computer)
        print(f"{server.address} (Ctrl-C ends it)\n{cost}", flush=True)
        server.run()
        return
    print(cost)


def _packed(model: Model, serves: bool) -> Packed | None:
    """The networks for the page's kernel; None where Python has to compute them. Raises UserError where no server `serves` them."""
    from infogan_dist.export.page.build import packed
    from infogan_dist.export.page.pack import NotForPage

    try:
        return packed(model)
    except NotForPage as reason:
        if not serves:
            remedy = f"`infogan-dist explore {model.path}` serves a page for which Python computes them"
            raise UserError(f"{reason}; {remedy}") from None
        print(f"Python computes the networks: {reason}")
        return None
