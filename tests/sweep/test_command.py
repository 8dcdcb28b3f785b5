"""Sweeps whose runs are a script instead of training, and one that trains, is killed, and resumes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from infogan_dist.cli.main import main
from infogan_dist.config.reading import load_config
from infogan_dist.errors import InfoganError, UserError
from infogan_dist.evaluation.command import EvaluateOptions, evaluate
from infogan_dist.sweep import command
from infogan_dist.sweep.child import shares
from infogan_dist.sweep.combinations import combinations
from infogan_dist.sweep.command import SweepOptions, sweep
from infogan_dist.training.loop import train
from tests.conftest import ONE_PROCESS, clean_environment, untrained

TINY = (
    *(
        "networks.width=4",
        "train={global_batch: 12, steps: 40, precision: fp64, threads: 1, ema_half_life_images: 100}",
    ),
    *("sample.every=0", "checkpoint.every=4", "log.every=5", "evaluate.every=0"),
)
SCRIPT = """
import sys, pathlib, time
values = dict(each.split("=", 1) for each in sys.argv[5:])
begun = pathlib.Path(values["output"]).parent / f"begun-{values['seed']}"
begun.touch()
if values["seed"] == "2":
    print("infogan-dist: it cannot train")
    sys.exit("launcher: a rank has failed")
time.sleep(0.5)
pathlib.Path(values["output"], "environment").write_text(repr(dict(__import__("os").environ)))
"""


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[EvaluateOptions]:
    """What `evaluate` is called with, instead of evaluating."""
    calls: list[EvaluateOptions] = []
    monkeypatch.setattr(command, "evaluate", lambda options, launch: calls.append(options))
    return calls


def scripted(folder: Path, *overrides: str, jobs: int = 1) -> SweepOptions:
    script = folder / "run.py"
    script.write_text(SCRIPT)
    runs = tuple(combinations(overrides, folder / "sweep"))
    return SweepOptions("debug", runs, folder / "sweep", (sys.executable, str(script)), jobs)


def test_a_failed_run_is_a_row_and_does_not_stop_the_others(
    tmp_path: Path,
    evaluated: list[EvaluateOptions],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")
    options = scripted(tmp_path, "seed=1,2,3")
    with pytest.raises(InfoganError, match="1 of 3 runs failed to train; the same command tries them again"):
        sweep(options, ONE_PROCESS)
    (call,) = evaluated
    assert call.paths == tuple(run.output for run in options.runs)
    assert call.failed == {options.runs[1].output: "it cannot train"}
    assert call.out == tmp_path / "sweep" / "evaluation.json"
    printed = capsys.readouterr().out
    assert "seed=2: FAILED: it cannot train\nseed=3: started\nseed=3: done (2 of 3)" in printed
    assert "WORLD_SIZE" not in (options.runs[0].output / "environment").read_text()
    assert "a rank has failed" in (options.runs[1].output / "train.log").read_text()


def test_runs_that_are_done_are_not_started(
    tmp_path: Path, evaluated: list[EvaluateOptions], capsys: pytest.CaptureFixture[str]
) -> None:
    options = scripted(tmp_path, "seed=1,3", *TINY)
    for run in options.runs:
        untrained(run.output, *run.overrides)
    (options.runs[0].output / "DONE").touch()  # the other has a checkpoint, but did not finish
    sweep(options, ONE_PROCESS)
    printed = capsys.readouterr().out
    assert printed.startswith("2 runs, 1 of them done before")
    assert "seed=1: started" not in printed
    assert "seed=3: started" in printed
    assert len(evaluated) == 1


def test_jobs_train_at_the_same_time_on_separate_cores(tmp_path: Path, evaluated: list[EvaluateOptions]) -> None:
    options = scripted(tmp_path, "seed=1,3,4", jobs=2)
    sweep(options, ONE_PROCESS)
    assert sorted(path.name for path in (tmp_path / "sweep").glob("begun-*")) == ["begun-1", "begun-3", "begun-4"]
    both = shares(2, ["0", "1", "2"])
    assert [share.gpu for share in both] == ["0", "1"]
    if len(os.sched_getaffinity(0)) > 1:
        first, second = (share.cores for share in both)
        assert first is not None
        assert second is not None
        assert not first & second
    assert [(share.cores, share.gpu) for share in shares(1, ["0", "1"])] == [(None, None)]


def test_a_sweep_refuses_the_folder_of_a_run_and_other_numbers(
    tmp_path: Path, evaluated: list[EvaluateOptions]
) -> None:
    run = untrained(tmp_path / "sweep")
    with pytest.raises(UserError, match="holds a run; choose a folder for the sweep's runs"):
        sweep(scripted(tmp_path, "seed=1,2"), ONE_PROCESS)
    (run / "config.yaml").unlink()
    untrained(run / "seed=1", *TINY, "seed=1", "networks.width=5")
    with pytest.raises(UserError, match=r"networks\.width = 5, not 4"):
        sweep(scripted(tmp_path, "seed=1,2", *TINY), ONE_PROCESS)
    assert evaluated == []


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["seed=1,x"], {}, 'seed = "x"'),
        (["seed=1,2", "--jobs", "2", "--launcher", "torchrun"], {}, "use --jobs or a launcher"),
        (["seed=1,2", "--jobs", "2"], {"TORCHELASTIC_RUN_ID": "none"}, "use --jobs or a launcher"),
        (["seed=1,2", "--launcher", "'"], {}, "--launcher"),
        (["seed=1,2", "--jobs", "0"], {}, "--jobs"),
        (["seed=1,2", "--launcher", "no-such-launcher"], {}, "no-such-launcher cannot be started"),
        (
            ["seed=1,2"],
            {**dict.fromkeys(("RANK", "LOCAL_RANK"), "0"), **dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), "2")}
            | {"MASTER_ADDR": "localhost", "MASTER_PORT": "29500"},
            "start it without a launcher",
        ),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: list[str],
    environment: dict[str, str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(["sweep", "debug", *arguments, "--output", "out"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    if "no-such-launcher" not in arguments:
        assert list(tmp_path.iterdir()) == []


def test_print_slurm_trains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", "debug", "seed=1,2", "--output", "out", "--print", "slurm", "--jobs", "2"]) == 0
    assert "#SBATCH --array=0-1%2" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals a child whose parent was killed")
def test_a_killed_sweep_resumes_to_the_table_of_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "images").mkdir()
    for number in range(24):
        Image.new("L", (28, 28), 10 * number).save(tmp_path / "images" / f"{number}.png")
    data = "data={name: folder, root: images, channels: 1, image_size: 28}"
    arguments = ["sweep", "debug", "seed=1,2", data, *TINY, "--output", "sweep"]
    killed = subprocess.Popen([sys.executable, "-m", "infogan_dist", *arguments], cwd=tmp_path, env=clean_environment())
    while killed.poll() is None and not list(tmp_path.glob("sweep/seed=1/checkpoints/step-*")):
        time.sleep(0.05)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    run, deadline = tmp_path / "sweep" / "seed=1", time.monotonic() + 60
    while not ((run / "PREEMPTED").exists() or (run / "DONE").exists()):
        assert time.monotonic() < deadline, "the run did not stop"
        time.sleep(0.1)

    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 0
    runs = [Path("undisturbed", f"seed={seed}") for seed in (1, 2)]
    for seed, run in enumerate(runs, 1):
        train(load_config("debug", [data, *TINY, f"seed={seed}", f"output={run}"]), ONE_PROCESS)
        assert (run / "metrics.jsonl").read_bytes() == (Path("sweep") / run.name / "metrics.jsonl").read_bytes()
    evaluate(EvaluateOptions(tuple(runs), out=Path("undisturbed.json")), ONE_PROCESS)
    table = Path("sweep/evaluation.json").read_text()
    assert table == Path("undisturbed.json").read_text().replace("undisturbed/", "sweep/")
    assert len(json.loads(table)["runs"]) == 2
