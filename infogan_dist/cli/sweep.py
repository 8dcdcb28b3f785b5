"""`sweep`: one run per combination of config values."""

from __future__ import annotations

import argparse
import os
import shlex

from infogan_dist.cli.arguments import add_config, count, path
from infogan_dist.distributed.launcher import Launch
from infogan_dist.errors import UserError

HELP = "trains one run per combination of config values; the same command again continues"
NOTES = (
    "key.path=1,2,3 lists values, separated at the commas outside of brackets and quotes; every combination is a run in DIR.\n"
    "Ctrl-C stops the runs once they have saved. At the end comes the table of evaluate, where a failed run is a row as well."
)
EXAMPLE = (
    "infogan-dist sweep configs/quickstart.yaml seed=1,2,3 latents.continuous=1,2 --output runs/sweep\n"
    "each run on two processes:\n"
    "         infogan-dist sweep quickstart seed=1,2,3 --output runs/sweep --launcher 'torchrun --nproc-per-node 2'\n"
    "a SLURM job array instead:\n"
    "         infogan-dist sweep quickstart seed=1,2,3 --output runs/sweep --print slurm > sweep.sbatch"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--output", required=True, type=path, metavar="DIR", help="the folder of the run folders")
    parser.add_argument("--jobs", type=count, metavar="N", help="runs at a time; they share cores and GPUs out (1)")
    parser.add_argument("--launcher", metavar="COMMAND", help="starts each run with `COMMAND -m infogan_dist train`")
    parser.add_argument(
        "--print", choices=["slurm"], help="print the script of a job array and stop; nothing is trained"
    )


def run(options: argparse.Namespace) -> None:
    from infogan_dist.config.reading import load_config
    from infogan_dist.sweep.combinations import combinations

    launch = Launch.from_environment(os.environ)
    if launch.processes > 1:
        raise UserError(
            "a sweep is one process that starts its runs; start it without a launcher and give it the launcher of each run: "
            "--launcher 'torchrun --nproc-per-node 2'"
        )
    launcher = _words(options.launcher) if options.launcher is not None else ()
    if launcher and options.jobs is not None and options.print is None:
        raise UserError(
            "--jobs shares out one host, and a run under a launcher uses all of it; give --jobs or --launcher"
        )
    runs = combinations(options.overrides, options.output)
    for each in runs:
        load_config(options.config, each.overrides)
    if options.print == "slurm":
        from infogan_dist.sweep.slurm import job_array

        print(job_array(runs, options.config, options.output, options.overrides, launcher, options.jobs), end="")
        return

    from infogan_dist.sweep.command import SweepOptions, sweep

    sweep(SweepOptions(options.config, tuple(runs), options.output, launcher, options.jobs or 1), launch)


def _words(launcher: str) -> tuple[str, ...]:
    """Split as a shell would. Raises UserError where a quotation does not end, or there is no word."""
    try:
        words = tuple(shlex.split(launcher))
    except ValueError as error:
        raise UserError(f"--launcher {launcher!r} cannot be read: {error}") from None
    if not words:
        raise UserError("--launcher is empty; give a command such as 'torchrun --nproc-per-node 2'")
    return words
