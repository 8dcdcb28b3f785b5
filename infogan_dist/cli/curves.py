"""`curves`: what runs logged, as a picture."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from infogan_dist.cli.arguments import path, write_result
from infogan_dist.distributed.launcher import Launch
from infogan_dist.errors import UserError

if TYPE_CHECKING:
    from infogan_dist.sampling.curves import RunCurves

HELP = "draws the losses, scores, information and code error of runs over the images seen"
EXAMPLE = "infogan-dist curves runs/seed-1 runs/seed-2 --out curves.svg"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=path, metavar="RUN", help="run folders, drawn over each other")
    parser.add_argument("--out", required=True, type=path, help="FILE.svg, .pdf or .png")


def run(options: argparse.Namespace) -> None:
    if Launch.from_environment(os.environ).rank:
        return

    from infogan_dist.sampling.curves import ENDINGS, write_runs
    from infogan_dist.sampling.outputs import check_file

    check_file(options.out, ENDINGS)
    names = [run.resolve().name for run in options.runs]
    names = names if len(set(names)) == len(names) else list(map(str, options.runs))
    runs = [_read(run, name) for run, name in zip(options.runs, names, strict=True)]
    write_result(lambda: write_runs(runs, options.out), options.out)


def _read(run: Path, name: str) -> RunCurves:
    """Raises UserError where `run` has no rows of training."""
    from infogan_dist.checkpoints.run_folder import read_metrics
    from infogan_dist.config.reading import load_config
    from infogan_dist.sampling.curves import RunCurves

    if not run.is_dir():
        raise UserError(f"there is no run folder {run}")
    rows = read_metrics(run / "metrics.jsonl")
    if not any(row["kind"] == "train" for row in rows):
        raise UserError(f"{run} has no rows of training in metrics.jsonl; give a run folder that has trained")
    config = run / "config.yaml"
    return RunCurves(name, rows, load_config(config) if config.exists() else None)
