"""Decides whether and where a train command resumes. Changes nothing in the output folder.

Rank zero alone calls these functions.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from infogan_dist.checkpoints import store as checkpoints
from infogan_dist.checkpoints.run_folder import read_metrics
from infogan_dist.checkpoints.run_lock import holder_of
from infogan_dist.checkpoints.store import Checkpoint, Origin
from infogan_dist.config.reading import changed_numbers, load_config
from infogan_dist.config.schema import Config
from infogan_dist.data.fingerprint import Fingerprint
from infogan_dist.distributed.cluster import resolve_precision
from infogan_dist.errors import InfoganError, UserError
from infogan_dist.registry.data_sets import DATA_SETS


@dataclass(frozen=True)
class Resume:
    """What a train command does: the config to train, where to start, and whether the run is finished.

    It starts at `checkpoint`, or from the networks of `initial` in a new run, or from new networks where both are None.
    """

    config: Config
    checkpoint: Checkpoint | None
    finished: bool
    notices: tuple[str, ...] = ()
    resumed_from: tuple[Origin, ...] = ()
    initial: Checkpoint | None = None


def decide_resume(
    config: Config,
    resume: str,
    device: torch.device,
    images: Fingerprint | None = None,
    init_from: Path | None = None,
) -> Resume:
    """Compare a train command with what its output folder holds. Changes nothing.

    `images` are those that the command would train on; None where they are not known, and not compared. `init_from` is the
    checkpoint whose networks a new run starts from.

    Raises UserError where the command contradicts the run there or the folder cannot be written, NoUsableCheckpoint where
    none of its checkpoints verifies.
    """
    folder = Path(config.output)
    check_writable(folder)
    found, complaints = checkpoints.newest(folder / "checkpoints")
    reached = _reached(folder, found.step if found else 0)
    recorded = _recorded(folder, found)
    if recorded is not None and resume == "never":
        raise UserError(f"{folder} holds a run and --resume is never; choose another output")
    if recorded is not None:
        config = _continued(config, recorded)
    notices = [f"skipping a damaged checkpoint: {complaint}" for complaint in complaints]
    resumed_from = found.resumed_from if found is not None else []
    initial = _initial(init_from, config, newest=found) if init_from is not None else None
    if resume not in ("auto", "never"):
        found, config, resumed_from = _resumed(Path(resume), config, newest=found)
    config = _with(config, resolve_precision(config.train.precision, device), config.run_images)
    if found is not None and reached > found.step:
        notices.append(f"training again from step {found.step + 1}: the steps up to {reached} were not saved")
    done = (folder / "DONE").exists()
    finished = found is not None and found.step >= config.train.steps and done
    if found is not None and found.step > config.train.steps and not done:
        raise UserError(
            f"{found.path} is at step {found.step}, after train.steps = {config.train.steps}; set train.steps to {found.step} or more"
        )
    if found is not None and images is not None and not finished:
        check_images(found, config, images)
    return Resume(config, found, finished, tuple(notices), tuple(resumed_from), initial)


def is_finished(config: Config) -> bool:
    """Whether the run in the output folder is DONE with as many steps as `config` asks for. Verifies no checkpoint.

    Raises UserError if the folder holds a run with another config.
    """
    folder = Path(config.output)
    recorded = _recorded(folder, None)
    if recorded is None:
        return False
    _continued(config, recorded)
    return recorded.train.steps >= config.train.steps and (folder / "DONE").exists()


def check_images(checkpoint: Checkpoint, config: Config, images: Fingerprint) -> None:
    """Raises UserError where `checkpoint` was trained on other images than these. One that does not record its images passes,
    unless its data set has changed since."""
    name, recorded = config.data.name, checkpoint.images
    if recorded is not None:
        change = recorded.difference(images)
        remedy = "to go on, train on the same images; to train on these, choose another output"
    else:
        change, remedy = DATA_SETS[name].redrawn or None, "choose another output to train on the new images"
    if change is not None:
        raise UserError(
            f"{checkpoint.path} was trained on other images of {name} than there are now ({change}); {remedy}"
        )


def _continued(config: Config, recorded: Config) -> Config:
    """`config` with the recorded values that a resumed run keeps. Raises UserError if it changes a number of that run."""
    config = _kept(config, recorded)
    for key, old, new in changed_numbers(recorded, config):
        raise UserError(
            f"{config.output} holds a run with {key} = {json.dumps(old)}, not {json.dumps(new)}; set it back, choose another output, "
            f"or start a new run from its networks: --init-from {config.output} output=OTHER"
        )
    return config


def _recorded(folder: Path, newest: Checkpoint | None) -> Config | None:
    """The config of the run in `folder`, if there is one: its config.yaml, or what its newest checkpoint holds."""
    if (folder / "config.yaml").exists():
        return load_config(folder / "config.yaml")
    return newest.config if newest is not None else None


def _reached(folder: Path, saved: int) -> int:
    """The last step that the run in `folder` is known to have reached, `saved` or later."""
    named = [checkpoints.step_of(path) for path in checkpoints.folders(folder / "checkpoints")[:1]]
    return max([saved, *named, *(int(row["step"]) for row in read_metrics(folder / "metrics.jsonl")[-1:])])


def _resumed(path: Path, config: Config, newest: Checkpoint | None) -> tuple[Checkpoint, Config, list[Origin]]:
    """Where `--resume path` starts, with which config, and the checkpoints that this run was started from.

    It starts at `newest`, the newest checkpoint of the output folder, where that one continues the checkpoint at `path`.
    Raises UserError where the output folder holds another run.
    """
    try:
        chosen = checkpoints.find_with_networks(path, "--resume")
    except InfoganError as error:
        if newest is None or not newest.resumed_from:
            raise
        raise type(error)(f"{error}; {config.output} continues its step {newest.step} without --resume") from None
    config = _kept(config, chosen.config)
    for key, old, new in changed_numbers(chosen.config, config):
        raise UserError(f"{chosen.path} was trained with {key} = {json.dumps(old)}, not {json.dumps(new)}")
    if newest is None:
        return chosen, config, [*chosen.resumed_from, chosen.origin]
    if path.resolve() == Path(config.output).resolve():
        return newest, config, newest.resumed_from
    if newest.origin == chosen.origin:
        return newest, config, [*newest.resumed_from, newest.origin]
    if any(origin in newest.resumed_from for origin in _origins(path, chosen)):
        return newest, config, newest.resumed_from
    what = "newer checkpoint" if newest.step > chosen.step else "checkpoint of another run"
    raise UserError(
        f"{config.output} holds a {what} (step {newest.step}) that does not continue {chosen.path}; "
        "choose another output, or leave out --resume to continue that one"
    )


def _initial(path: Path, config: Config, newest: Checkpoint | None) -> Checkpoint | None:
    """The checkpoint whose networks a new run starts from; None where the output folder already continues such a run.

    Raises UserError where the output folder holds a run that did not start there.
    """
    if newest is None:
        return checkpoints.find_with_networks(path, "--init-from")
    origins: list[Origin] = []
    with suppress(InfoganError):  # the source may be gone
        origins = list(_origins(path, checkpoints.find(path)))
    started_at = newest.manifest.get("initialised_from")
    if started_at is None or (origins and started_at not in origins):
        raise UserError(
            f"{config.output} holds a run that did not start from {path}; choose another output, or leave out --init-from to "
            "continue that run"
        )
    return None


def _origins(path: Path, chosen: Checkpoint) -> Iterator[Origin]:
    """The checkpoints that `--resume path` may have named so far: of a run folder, every one that verifies."""
    yield chosen.origin
    for older in checkpoints.folders(path / "checkpoints"):
        with suppress(checkpoints.Damaged):
            yield checkpoints.verify(older).origin


def check_writable(output: Path) -> None:
    """Raises UserError unless `output` can be made and written to; leaves nothing behind."""
    existing = next(path for path in (output, *output.absolute().parents) if os.path.lexists(path))
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        reason = (
            f"{existing} {'is not a folder' if not existing.is_dir() else f'cannot be written to: {error.strerror}'}"
        )
        raise UserError(f"output = {output}: {reason}; choose another output") from error


def who_writes_in(output: Path) -> str | None:
    """The process that trains in `output` now; None where there is none."""
    holder = holder_of(output)
    return holder.name if holder else None


def _kept(config: Config, recorded: Config) -> Config:
    """`config` with the precision and the images of its schedules that a run recorded, where it leaves them open."""
    precision = config.train.precision if config.train.precision != "auto" else recorded.train.precision
    return _with(config, precision, config.schedule.images or recorded.run_images)


def _with(config: Config, precision: str, images: int) -> Config:
    train = config.train.model_copy(update={"precision": precision})
    return config.model_copy(update={"train": train, "schedule": config.schedule.model_copy(update={"images": images})})
