"""`evaluate` as a whole: what is asked for, measured, told, written and named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from infogan_dist.checkpoints.store import versions
from infogan_dist.config.model import DataConfig
from infogan_dist.config.reading import parse_config
from infogan_dist.config.running import ProcessesConfig
from infogan_dist.config.schema import Config
from infogan_dist.data.fingerprint import fingerprint
from infogan_dist.data.sources import scored_split
from infogan_dist.distributed.group import Group
from infogan_dist.distributed.launcher import Launch
from infogan_dist.errors import NoUsableCheckpoint, UserError
from infogan_dist.evaluation import json_file as figures_file
from infogan_dist.evaluation.code_names import name_codes
from infogan_dist.evaluation.controls import controls
from infogan_dist.evaluation.figures import Figures
from infogan_dist.evaluation.measure import measure
from infogan_dist.evaluation.reals import Reals
from infogan_dist.evaluation.runs import failure, is_run, summary
from infogan_dist.evaluation.subject import Origin, Subject, from_checkpoint
from infogan_dist.evaluation.table import runs_table, table
from infogan_dist.sampling.grids import batches_of, fixed_grids, to_uint8, write_grid

STDOUT = Path("-")
THREADS = 1  # of each process: another number of them rounds a sum otherwise, and the figures would not be the same


@dataclass(frozen=True)
class Request:
    """What is asked for: the checkpoints, other data than their own, rows of controls, names for the codes, a JSON file."""

    paths: tuple[Path, ...]
    data: str | None = None
    root: str | None = None
    controls: bool = False
    name_codes: bool = False
    out: Path | None = None


def evaluate(request: Request, launch: Launch) -> None:
    """Measure every checkpoint, print a table, write the figures as JSON. Every rank calls it.

    One checkpoint: its figures. Several: {"runs": [figures, ...], "summary": {...}}, where a run without a usable checkpoint is
    a row as well. Raises UserError for what is no run or checkpoint, before anything is measured.
    """
    with Group(launch, THREADS, ProcessesConfig()) as group:
        group.on_main(lambda: _check(request))
        data: dict[DataConfig, Reals] = {}
        rows = [_examined(path, request, group, data) for path in request.paths]
        report: Figures = dict(rows[0]) if len(rows) == 1 else {"runs": rows, "summary": summary(rows)}
        rivals = [row for reals in data.values() for row in controls(reals, group)] if request.controls else []
        report |= {"controls": rivals} if request.controls else {}
        lines = table(rows[0]) if len(rows) == 1 else []
        lines += runs_table([*rows, *rivals], summary(rows)) if rivals or len(rows) > 1 else []
        group.on_main(lambda: _tell(lines, report, request.out))


def _examined(path: Path, request: Request, group: Group, data: dict[DataConfig, Reals]) -> Figures:
    """One row. Where there are several, a checkpoint that cannot be used is a failure among them."""
    try:
        subject = from_checkpoint(path, group)
    except NoUsableCheckpoint as error:
        if len(request.paths) == 1:
            raise
        return {"checkpoint": str(path), "failed": str(error)}
    except UserError as error:
        if len(request.paths) == 1 or not group.on_main(lambda: is_run(path)):
            raise
        return {"checkpoint": str(path), "failed": str(error)}
    assert subject.origin is not None
    reals = _reals(_data_for(subject.config, request), group, data)
    figures = facts(subject, subject.origin, reals) | measure(subject, reals, group)
    reason = group.on_main(lambda: failure(path, figures))
    figures |= {"failed": reason} if reason else {}
    if request.name_codes:
        _name(subject, figures, group)
    return figures


def _name(subject: Subject, figures: Figures, group: Group) -> None:
    """Keep the matching in the run folder, and a grid there with a row per class and its label beside it."""
    names = group.on_main(lambda: name_codes(figures, subject.origin))
    grid = fixed_grids(subject.spec, subject.config.seed)[""]
    classes = grid.latents.codes.categorical[:, subject.spec.categorical_names.index(names.code)]
    vectors, count = subject.spec.vector(grid.latents), len(classes)
    drawn = group.map_batches(batches_of(count), lambda ours: to_uint8(subject.draw(vectors[ours])))
    origin = subject.origin
    assert origin is not None
    assert origin.run is not None
    path = origin.run / "samples" / f"step-{origin.step:08d}-named.png"
    group.on_main(lambda: _picture(drawn[:count].cpu(), grid.columns, path, names.of(classes)))


def _picture(images: Tensor, columns: int, path: Path, labels: list[str]) -> None:
    path.parent.mkdir(exist_ok=True)
    write_grid(images, columns, path, labels)
    print(f"named grid: {path}")


def facts(subject: Subject, origin: Origin, reals: Reals) -> Figures:
    """What the figures are of."""
    return {
        "checkpoint": str(origin.path),
        "seed": subject.config.seed,
        "step": origin.step,
        "images_seen": origin.images_seen,
        "data": reals.data.name,
        "images": len(reals.test),
        "split": scored_split(reals.data, trained_on(subject.config.data, origin, reals)),
        "fresh_images": subject.fresh,
        "versions": versions(),
    }


def trained_on(data: DataConfig, origin: Origin, reals: Reals) -> bool:
    """Whether these are images of the data set `data` that the run was trained on: a folder counts as it if it may be the same,
    wherever it lies."""
    if reals.data == data:
        return True
    return reals.data.name == data.name and (
        origin.images is None or origin.images.difference(fingerprint(reals.train)) is None
    )


def _data_for(config: Config, request: Request) -> DataConfig:
    """The run's own data, or what the command says instead. Raises UserError for a name there is not."""
    given = {"name": request.data, "root": request.root}
    changed: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if not changed:
        return config.data
    values = config.model_dump(mode="json")
    values["data"] |= changed
    return parse_config(values).data


def _reals(data: DataConfig, group: Group, opened: dict[DataConfig, Reals]) -> Reals:
    if data not in opened:
        opened[data] = group.on_all(lambda: Reals.open(data))
    return opened[data]


def _check(request: Request) -> None:
    """Raises UserError for a path that is nothing, or an --out that cannot be written, before minutes of measuring."""
    for path in request.paths:
        if not path.exists():
            raise UserError(f"there is no {path}; give a run folder or a checkpoint folder")
    if request.out is not None and request.out != STDOUT:
        figures_file.check_writable(request.out)


def _tell(lines: Sequence[str], report: Figures, out: Path | None) -> None:
    print("\n".join(lines))
    if out == STDOUT:
        print(json.dumps(report))
    elif out is not None:
        figures_file.write(out, json.dumps(report, indent=1) + "\n")
