"""A sweep as the script of a SLURM job array: one task per run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from infogan_dist.sweep.combinations import Combination


def job_array(
    runs: Sequence[Combination],
    config: str,
    folder: Path,
    overrides: Sequence[str],
    launcher: Sequence[str] = (),
    at_a_time: int | None = None,
) -> str:
    """The script. At most `at_a_time` tasks run at once, if it is given. Its comment shows the sweep command with `overrides`."""
    cases = [
        f"  {number}) output={shlex.quote(str(run.output))} overrides=({shlex.join(run.overrides)}) ;;"
        for number, run in enumerate(runs)
    ]
    filled = {
        "sweep": shlex.join(["infogan-dist", "sweep", config, *overrides, "--output", str(folder)]).replace("\n", " "),
        "array": f"0-{len(runs) - 1}" + (f"%{at_a_time}" if at_a_time is not None else ""),
        "runs": "\n".join(cases),
        "launcher": shlex.join(launcher or ("python",)),
        "config": shlex.quote(config),
    }
    template = files("infogan_dist.sweep").joinpath("array.sbatch").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda place: filled[place[1]], template)
