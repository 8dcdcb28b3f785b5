"""Shared by the tests: tiny configs, the launch of one process, and full MNIST if it is on this machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infogan_dist.checkpoints import store
from infogan_dist.config.reading import dump_config, load_config
from infogan_dist.config.schema import Config
from infogan_dist.distributed.launcher import RANK_PREFIXES, Launch
from infogan_dist.networks import build_networks
from infogan_dist.training import trainer

ROOT = Path(__file__).parents[1]
SHIPPED = sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))
ONE_PROCESS = Launch(processes=1, rank=0, local_rank=0, local_processes=1, cpu=True, precision=None)


def tiny(output: Path | str, *overrides: str) -> Config:
    """A config that trains in about a second: width 4, 12 images a step, 6 steps, fp64."""
    small = (
        f"output={output}",
        "networks.width=4",
        "train={global_batch: 12, steps: 6, precision: fp64, threads: 1, ema_half_life_images: 100}",
        "sample.every=0",
        "checkpoint.every=2",
        "log.every=1",
    )
    return load_config("debug", [*small, *overrides])


def root_of(name: str, root: Path | str = "data") -> list[str]:
    """The override of data.root that a shipped config needs: those of folders do not load without one."""
    text = (ROOT / "configs" / f"{name}.yaml").read_text()
    return [f"data.root={root}"] if re.search("^  name: folder$", text, re.MULTILINE) else []


def untrained(output: Path, *overrides: str) -> Path:
    """A run folder with a checkpoint of networks that were never trained, in a moment."""
    config = tiny(output, "train.precision=fp32", *overrides)
    state = {name: dict(network.state_dict()) for name, network in build_networks(config).named().items()}
    facts = {"step": 2, "images_seen": 24, "config": config.model_dump(mode="json"), "scaler": {}, "bad_steps": {}}
    store.save(output / "checkpoints", state, facts)
    (output / "config.yaml").write_text(dump_config(config))
    row = {"kind": "train", "step": 2, "images_seen": 24, "loss/D": 1.4, "loss/G": 0.7, "mi/categorical_0": 0.1}
    (output / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    return output


def clean_environment(**variables: str) -> dict[str, str]:
    """The environment without variables of launchers and without GPUs."""
    launcher = (*RANK_PREFIXES, "ACCELERATE_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(launcher)}
    return kept | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} | variables


Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def infogan(tmp_path: Path) -> Command:
    """Run the command line in a separate process, in an empty folder."""

    def run(*arguments: object, processes: int = 1, **variables: str) -> subprocess.CompletedProcess[str]:
        launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", "0"]
        launcher = [*launcher, "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"] if processes > 1 else []
        return subprocess.run(
            [sys.executable, *launcher, "-m", "infogan_dist", *map(str, arguments)],
            cwd=tmp_path,
            env=clean_environment(**variables),
            capture_output=True,
            text=True,
            timeout=600,  # for a hang; training the reference classifier takes minutes on a slow core
        )

    return run


@pytest.fixture
def full_mnist() -> str:
    """The folder of full MNIST, or $INFOGAN_DATA. Skips the test if MNIST is not there."""
    root = Path(os.environ.get("INFOGAN_DATA", ROOT.parent / "shared" / "data"))
    if not (root / "MNIST" / "raw" / "train-images-idx3-ubyte").exists():
        pytest.skip(f"full MNIST is not in {root}; set INFOGAN_DATA")
    return str(root)


def refused(result: subprocess.CompletedProcess[str], *words: str, code: int = 2) -> None:
    """Assert the exit code and a single line on stderr that contains every word."""
    assert result.returncode == code, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert all(word in lines[0] for word in words), lines[0]


def tensors_of(module: Any) -> dict[str, Any]:
    """A copy of a module's weights and buffers."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def fails_after(last: int) -> Callable[..., None]:
    """A replacement of `trainer.update_average` that raises RuntimeError in every step after `last`."""
    real = trainer.update_average

    def update_average(networks: Any, config: Any, step: int, grad_norm_G: Any) -> None:
        if step > last:
            raise RuntimeError("broken")
        real(networks, config, step, grad_norm_G)

    return update_average
