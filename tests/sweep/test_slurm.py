"""The job array as SLURM runs it, with srun and scontrol replaced."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from infogan_dist.sweep.combinations import combinations
from infogan_dist.sweep.slurm import job_array
from tests.launch.test_launch_files import shellcheck

OVERRIDES = ["seed=1,2", "data.root='it''s here'"]


def run_task(folder: Path, script: str, number: int, srun: str) -> tuple[int, list[str]]:
    """Run one task of the array in `folder`. Returns its exit code and the calls of srun and scontrol, with NUL between words."""
    commands = folder / "commands"
    commands.mkdir(exist_ok=True)
    for name, body in (("srun", srun), ("scontrol", "")):
        (commands / name).write_text(f'#!/bin/bash\n(printf "{name}"; printf "\\0%s" "$@"; echo) >> calls\n{body}\n')
        (commands / name).chmod(0o755)
    variables = {"SLURM_ARRAY_TASK_ID": str(number), "SLURM_JOB_ID": "7", "PATH": f"{commands}:{os.environ['PATH']}"}
    (folder / "calls").unlink(missing_ok=True)
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=os.environ | variables, capture_output=True, text=True
    )
    calls = folder / "calls"
    return done.returncode, calls.read_text().splitlines() if calls.exists() else []


@pytest.fixture
def script() -> str:
    return job_array(combinations(OVERRIDES, Path("out")), "debug", Path("out"), OVERRIDES, at_a_time=3)


def test_each_task_trains_its_run(tmp_path: Path, script: str) -> None:
    assert "#SBATCH --array=0-1%3\n" in script
    code, (call,) = run_task(tmp_path, script, 1, "exit 0")
    assert code == 0
    words = call.split("\0")
    assert words[words.index("python") :] == [
        *("python", "-m", "infogan_dist", "train", "debug"),
        *("seed=2", "data.root='it''s here'", "output=out/seed=2"),
    ]
    assert run_task(tmp_path, script, 0, "exit 3")[0] == 3
    assert run_task(tmp_path, script, 2, "exit 0") == (2, [])


def test_a_preempted_task_is_requeued(tmp_path: Path, script: str) -> None:
    (tmp_path / "out" / "seed=2").mkdir(parents=True)
    code, calls = run_task(tmp_path, script, 1, "touch out/seed=2/PREEMPTED; exit 1")
    assert (code, calls[-1]) == (0, "scontrol\0requeue\x007")
    assert run_task(tmp_path, f"export SLURM_RESTART_COUNT=20\n{script}", 1, "touch out/seed=2/PREEMPTED")[0] == 1
    assert run_task(tmp_path, script, 1, "exit 0")[0] == 0  # the marker of an earlier job does not count
    assert not (tmp_path / "out" / "seed=2" / "PREEMPTED").exists()


def test_a_launcher_starts_each_run_and_shellcheck_accepts_the_script(script: str) -> None:
    runs = combinations(OVERRIDES, Path("out"))
    launched = job_array(runs, "debug", Path("out"), OVERRIDES, ["torchrun", "--nproc-per-node", "2"])
    assert "  torchrun --nproc-per-node 2 -m infogan_dist train debug" in launched
    assert "#SBATCH --array=0-1\n" in launched
    assert [shellcheck(script), shellcheck(launched)] == ["", ""]
