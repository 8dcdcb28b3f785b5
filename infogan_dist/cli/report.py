"""`report`: one HTML file about runs."""

from __future__ import annotations

import argparse
import os

from infogan_dist.cli.arguments import path, write_result
from infogan_dist.distributed.launcher import Launch

HELP = "writes one self-contained page: curves, grids, scores, configs and versions of one or several runs"
NOTES = (
    "Scores are read from --scores FILE, written by evaluate --json FILE; else from evaluation.json in the run folder or its\n"
    "parent, where sweep writes it; else from the evaluations during training (evaluate.every)."
)
EXAMPLE = (
    "infogan-dist report runs/sweep --out sweep.html\n"
    "         infogan-dist evaluate runs/a runs/b --json scores.json\n"
    "         infogan-dist report runs/a runs/b --scores scores.json --out report.html\n"
    "         infogan-dist report runs/sweep --out bound.svg"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", nargs="+", type=path, metavar="RUN", help="run folders, or folders of runs such as a sweep's"
    )
    parser.add_argument(
        "--out",
        required=True,
        type=path,
        metavar="FILE",
        help="FILE.html: the page; FILE.svg: L_I and the code error as points",
    )
    parser.add_argument(
        "--scores", nargs="+", action="extend", default=[], type=path, metavar="FILE", help="written by evaluate --json"
    )


def run(options: argparse.Namespace) -> None:
    if Launch.from_environment(os.environ).rank:
        return

    from infogan_dist.export.page.write import write_html
    from infogan_dist.export.report.page import bound_file, report
    from infogan_dist.sampling.outputs import check_file

    check_file(options.out, (".html", ".htm", ".svg"))
    written = bound_file if options.out.suffix.lower() == ".svg" else report
    text = written(options.runs, options.scores)
    write_result(lambda: write_html(text, options.out), options.out)
