"""`sweep`: one run per combination of config values."""

from __future__ import annotations

import argparse
import os
import shlex

from infogan_dist.cli.arguments import add_config, count, path
from infogan_dist.distributed.launcher import Launch, has_parent_launcher
from infogan_dist.errors import UserError

HELP = "trains one run per combination of config values; the same command resumes"
NOTES = (
    "key.path=1,2,3 lists values, split at the commas outside brackets and quotes; each combination is a run folder in DIR.\n"
    "Ctrl-C stops the runs after they have saved. The sweep ends with the table of evaluate, which lists failed runs too."
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
    parser.add_argument(
        "--jobs", type=count, metavar="N", help="runs that train at a time, each on its part of the cores and GPUs (1)"
    )
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
            "sweep is one process that starts the processes of its runs; start it without a launcher, with the launcher of each run "
            "as --launcher 'torchrun --nproc-per-node 2'"
        )
    launcher = _words(options.launcher) if options.launcher is not None else ()
    launched = bool(launcher) or has_parent_launcher(os.environ)
    if launched and options.jobs is not None and options.print is None:
        raise UserError("--jobs divides one host, and a run under a launcher uses all of it; use --jobs or a launcher")
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
    """`launcher` split into words as a shell does. Raises UserError if a quotation does not end, or if it is empty."""
    try:
        words = tuple(shlex.split(launcher))
    except ValueError as error:
        raise UserError(f"--launcher {launcher!r} cannot be read: {error}") from None
    if not words:
        raise UserError("--launcher is empty; give a command such as 'torchrun --nproc-per-node 2'")
    return words
