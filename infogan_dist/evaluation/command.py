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
from infogan_dist.evaluation import json_file
from infogan_dist.evaluation.code_names import name_codes
from infogan_dist.evaluation.controls import controls
from infogan_dist.evaluation.evaluated_model import EvaluatedModel, Origin, from_checkpoint
from infogan_dist.evaluation.measure import measure
from infogan_dist.evaluation.metric_values import Metrics
from infogan_dist.evaluation.reals import Reals
from infogan_dist.evaluation.runs import failure, is_run, summary
from infogan_dist.evaluation.table import runs_table, table
from infogan_dist.sampling.batches import batches_of
from infogan_dist.sampling.grids import fixed_grids, to_uint8, write_grid

STDOUT = Path("-")
THREADS = 1  # of each process: another number of them rounds a sum otherwise, and the metrics would not be the same


@dataclass(frozen=True)
class EvaluateOptions:
    """What is asked for: the checkpoints, other data than their own, rows of controls, names for the codes, a JSON file."""

    paths: tuple[Path, ...]
    data: str | None = None
    root: str | None = None
    controls: bool = False
    name_codes: bool = False
    out: Path | None = None


def evaluate(options: EvaluateOptions, launch: Launch) -> None:
    """Measure every checkpoint, print a table, write the metrics as JSON. Every rank calls it.

    One checkpoint: its metrics. Several: {"runs": [metrics, ...], "summary": {...}}, where a run without a usable checkpoint is
    a row as well. Raises UserError for what is no run or checkpoint, before anything is measured.
    """
    with Group(launch, THREADS, ProcessesConfig()) as group:
        group.on_main(lambda: _check(options))
        data: dict[DataConfig, Reals] = {}
        rows = [_examined(path, options, group, data) for path in options.paths]
        report: Metrics = dict(rows[0]) if len(rows) == 1 else {"runs": rows, "summary": summary(rows)}
        rivals = [row for reals in data.values() for row in controls(reals, group)] if options.controls else []
        report |= {"controls": rivals} if options.controls else {}
        lines = table(rows[0]) if len(rows) == 1 else []
        lines += runs_table([*rows, *rivals], summary(rows)) if rivals or len(rows) > 1 else []
        group.on_main(lambda: _tell(lines, report, options.out))


def _examined(path: Path, options: EvaluateOptions, group: Group, data: dict[DataConfig, Reals]) -> Metrics:
    """One row. Where there are several, a checkpoint that cannot be used is a failure among them."""
    try:
        model = from_checkpoint(path, group)
    except NoUsableCheckpoint as error:
        if len(options.paths) == 1:
            raise
        return {"checkpoint": str(path), "failed": str(error)}
    except UserError as error:
        if len(options.paths) == 1 or not group.on_main(lambda: is_run(path)):
            raise
        return {"checkpoint": str(path), "failed": str(error)}
    assert model.origin is not None
    reals = _reals(_data_for(model.config, options), group, data)
    metrics = facts(model, model.origin, reals) | measure(model, reals, group)
    reason = group.on_main(lambda: failure(path, metrics))
    metrics |= {"failed": reason} if reason else {}
    if options.name_codes:
        _name(model, metrics, group)
    return metrics


def _name(model: EvaluatedModel, metrics: Metrics, group: Group) -> None:
    """Keep the matching in the run folder, and a grid there with a row per class and its label beside it."""
    names = group.on_main(lambda: name_codes(metrics, model.origin))
    grid = fixed_grids(model.spec, model.config.seed)[""]
    classes = grid.latents.codes.categorical[:, model.spec.categorical_names.index(names.code)]
    vectors, count = model.spec.vector(grid.latents), len(classes)
    drawn = group.map_batches(batches_of(count), lambda ours: to_uint8(model.draw(vectors[ours])))
    origin = model.origin
    assert origin is not None
    assert origin.run is not None
    path = origin.run / "samples" / f"step-{origin.step:08d}-named.png"
    group.on_main(lambda: _picture(drawn[:count].cpu(), grid.columns, path, names.of(classes)))


def _picture(images: Tensor, columns: int, path: Path, labels: list[str]) -> None:
    path.parent.mkdir(exist_ok=True)
    write_grid(images, columns, path, labels)
    print(f"named grid: {path}")


def facts(model: EvaluatedModel, origin: Origin, reals: Reals) -> Metrics:
    """What the metrics are of."""
    return {
        "checkpoint": str(origin.path),
        "seed": model.config.seed,
        "step": origin.step,
        "images_seen": origin.images_seen,
        "data": reals.data.name,
        "images": len(reals.test),
        "split": scored_split(reals.data, trained_on(model.config.data, origin, reals)),
        "fresh_images": model.fresh,
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


def _data_for(config: Config, options: EvaluateOptions) -> DataConfig:
    """The run's own data, or what the command says instead. Raises UserError for a name there is not."""
    given = {"name": options.data, "root": options.root}
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


def _check(options: EvaluateOptions) -> None:
    """Raises UserError for a path that is nothing, or an --out that cannot be written, before minutes of measuring."""
    for path in options.paths:
        if not path.exists():
            raise UserError(f"there is no {path}; give a run folder or a checkpoint folder")
    if options.out is not None and options.out != STDOUT:
        json_file.check_writable(options.out)


def _tell(lines: Sequence[str], report: Metrics, out: Path | None) -> None:
    print("\n".join(lines))
    if out == STDOUT:
        print(json.dumps(report))
    elif out is not None:
        json_file.write(out, json.dumps(report, indent=1) + "\n")
