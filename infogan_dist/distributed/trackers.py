"""Experiment trackers by name, through Accelerate's classes: a run's scalars and images, beside metrics.jsonl and samples/.

Rank zero alone calls these functions.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from PIL import Image

from infogan_dist.config.reading import dotted
from infogan_dist.config.schema import Config
from infogan_dist.errors import UserError

Tracker = Any  # one of Accelerate's, whose common class does not declare all that they have
PROJECT = "infogan_dist"  # the runs of one project are compared with each other
TAKE_ONE_IMAGE = ("aim", "clearml")  # where Accelerate's class passes a single image on; elsewhere it takes a list


class Trackers:
    """The started trackers of a run, whose files are in the run folder. `run_id` is kept when the run is resumed.

    `say` prints a line for the user. Raises UserError where a tracker cannot start. One that fails later is left out, with a
    warning: metrics.jsonl has every number.
    """

    def __init__(self, config: Config, run_id: str, first_step: int, say: Callable[[str], object]):
        self._say = say
        self._started: list[Tracker] = []
        for name in dict.fromkeys(config.log.trackers):
            try:
                tracker = _made(name, Path(config.output).absolute(), run_id, first_step)
                tracker.start()
                self._started.append(tracker)
                _store_config(tracker, config)
            except Exception as error:
                self.finish(UserError.exit_code)
                raise UserError(
                    f"log.trackers: {name} cannot start: {_first_line(error)}; fix it or leave {name} out"
                ) from error
        without = [tracker.name for tracker in self._started if not hasattr(tracker, "log_images")]
        if without:
            say(f"{', '.join(without)}: Accelerate logs no images there; the grids are in {config.output}/samples")

    def log(self, row: dict[str, float], step: int) -> None:
        """Log the numbers of one step."""
        self._each(lambda tracker: tracker.log(row, step=step))

    def log_images(self, pictures: dict[str, Image.Image], step: int) -> None:
        """Log the pictures of one step where a tracker takes images."""
        self._each(lambda tracker: _log_images(tracker, pictures, step))

    def finish(self, exit_code: int) -> None:
        """Write what is left and end the trackers; W&B shows a run with an exit code other than 0 as failed."""
        self._each(lambda tracker: _finish(tracker, exit_code))
        self._started = []

    def _each(self, act: Callable[[Tracker], object]) -> None:
        for tracker in tuple(self._started):
            try:
                act(tracker)
            except Exception as error:  # a tracker's package may raise anything; the run continues without it
                self._started.remove(tracker)
                self._say(f"warning: {tracker.name} failed and is left out: {_first_line(error)}")


def check_trackers(names: tuple[str, ...]) -> None:
    """Raises UserError for a tracker that Accelerate does not know or whose package is not installed."""
    available = [str(tracker) for tracker in get_available_trackers()]
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            known = ", ".join(sorted(map(str, LOGGER_TYPE_TO_CLASS)))
            raise UserError(f"log.trackers: there is no tracker {name}; Accelerate has {known}")
        if name not in available:
            raise UserError(f"log.trackers: the package of {name} is not installed; pip install {name}")


def check_start(config: Config) -> None:
    """Raises UserError where a tracker of this config could not start. Leaves nothing behind and contacts no server.

    TensorBoard is started in a temporary folder; W&B's mode and credentials are looked up. Others are only found installed.
    """
    names = config.log.trackers
    check_trackers(names)
    for folder in (Path(config.output) / name for name in ("tensorboard", "wandb") if name in names):
        if folder.exists() and not folder.is_dir():
            raise UserError(f"log.trackers: {folder} is not a folder; move it away")
    if "tensorboard" in names:
        with tempfile.TemporaryDirectory() as folder_name:
            trial = {"output": folder_name, "log": config.log.model_copy(update={"trackers": ("tensorboard",)})}
            Trackers(config.model_copy(update=trial), "", 1, print).finish(0)
    if "wandb" in names and not _wandb_has_credentials():
        raise UserError("log.trackers: wandb has no API key; run `wandb login`, or set WANDB_MODE=offline")


def _made(name: str, folder: Path, run_id: str, first_step: int) -> Tracker:
    kind: Any = LOGGER_TYPE_TO_CLASS[name]
    if name == "tensorboard":  # hides what an interrupted process logged from first_step on: it is trained again
        return kind("tensorboard", folder, purge_step=first_step)
    if name == "wandb":
        return kind(PROJECT, name=folder.resolve().name, id=run_id, resume="allow", dir=str(folder))
    return kind(PROJECT, folder) if kind.requires_logging_directory else kind(PROJECT)


def _store_config(tracker: Tracker, config: Config) -> None:
    if tracker.name == "wandb":  # shows nested values by dotted keys
        tracker.store_init_configuration(config.model_dump(mode="json"))
        return
    flat = {key: _plain(value) for key, value in dotted(config).items()}
    if tracker.name != "tensorboard":
        tracker.store_init_configuration(flat)
        return
    module = "torch.utils.tensorboard" if find_spec("tensorboard") else "tensorboardX"  # Accelerate takes either
    # its own method would add another run, named by the time, at each start
    for summary in import_module(f"{module}.summary").hparams(flat, {}):
        tracker.tracker.file_writer.add_summary(summary)


def _plain(value: Any) -> bool | int | float | str:
    """A value as TensorBoard's hyperparameters take it."""
    return value if isinstance(value, (bool, int, float, str)) else json.dumps(value)


def _log_images(tracker: Tracker, pictures: dict[str, Image.Image], step: int) -> None:
    if tracker.name == "tensorboard":
        arrays = {name: np.asarray(picture.convert("RGB"))[None] for name, picture in pictures.items()}
        tracker.log_images(arrays, step=step, dataformats="NHWC")
    elif tracker.name in TAKE_ONE_IMAGE:
        tracker.log_images(pictures, step=step)
    elif hasattr(tracker, "log_images"):
        tracker.log_images({name: [picture] for name, picture in pictures.items()}, step=step)


def _finish(tracker: Tracker, exit_code: int) -> None:
    if tracker.name == "wandb":
        tracker.tracker.finish(exit_code=exit_code)
    else:
        tracker.finish()


def _wandb_has_credentials() -> bool:
    """Whether W&B would start without a prompt: it writes files alone, or finds an API key."""
    import wandb

    if wandb.setup().settings.mode not in ("online", "shared"):
        return True
    with suppress(TypeError):  # an older release has no `prompt`; its own message comes at the start
        return wandb.login(prompt=False, verify=False)
    return True


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
