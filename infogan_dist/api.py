"""The Python API: functions that do what the commands of the same name do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from infogan_dist.config.reading import load_config
from infogan_dist.config.running import ProcessesConfig
from infogan_dist.config.schema import Config
from infogan_dist.distributed.group import Group
from infogan_dist.distributed.launcher import Launch
from infogan_dist.evaluation.command import THREADS, EvaluateOptions, measured
from infogan_dist.sampling.edit import edit
from infogan_dist.training import loop

__all__ = ["edit", "evaluate", "train"]


def train(config: Config | str | Path, *overrides: str, resume: str = "auto") -> Path:
    """Train one run, as `infogan-dist train` does; the same call again continues it. Returns the run folder.

    `config` is a YAML file, the name of a shipped config or a Config; `overrides` are `key.path=value`. Under a launcher every
    process calls it. Raises UserError, NoUsableCheckpoint, Diverged, or StoppedBySignal after saving.
    """
    resolved = config if isinstance(config, Config) and not overrides else load_config(_path(config), overrides)
    launch = Launch.from_environment(os.environ)
    launch.check_batch(resolved.train.global_batch, resolved.train.accumulate)
    threads = torch.get_num_threads()
    try:
        loop.train(resolved, launch, resume)
    finally:
        torch.set_num_threads(threads)
    return Path(resolved.output)


def evaluate(path: str | Path, data: str | None = None, root: str | None = None) -> dict[str, Any]:
    """The metrics of a run or checkpoint, as `infogan-dist evaluate --json` writes them. Under a launcher every process calls it.

    `data` and `root` name other data than its own. Raises UserError, NoUsableCheckpoint.
    """
    threads = torch.get_num_threads()
    try:
        with Group(Launch.from_environment(os.environ), THREADS, ProcessesConfig()) as group:
            return measured(EvaluateOptions((Path(path),), data, root), group)[0]
    finally:
        torch.set_num_threads(threads)


def _path(config: Config | str | Path) -> str | Path:
    if isinstance(config, Config):
        raise TypeError("overrides go with a file or the name of a config; use config.model_copy for a Config")
    return config
