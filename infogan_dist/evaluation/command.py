"""The `evaluate` command: measures checkpoints, prints tables, writes JSON and names codes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from infogan_dist.checkpoints.store import REFINED, versions
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
from infogan_dist.evaluation.clustered import clustering_control
from infogan_dist.evaluation.code_names import name_codes
from infogan_dist.evaluation.controls import controls, feature_controls
from infogan_dist.evaluation.evaluated_model import EvaluatedModel, Origin, from_checkpoint
from infogan_dist.evaluation.factor_floors import factor_floors
from infogan_dist.evaluation.measure import measure
from infogan_dist.evaluation.metric_values import Metrics
from infogan_dist.evaluation.metrics.averaged_code_error import averaged_code_error
from infogan_dist.evaluation.reals import Reals
from infogan_dist.evaluation.runs import failure, is_run, summary
from infogan_dist.evaluation.supervised import factor_ceiling, supervised_control
from infogan_dist.evaluation.table import run_report, runs_table
from infogan_dist.sampling.captions import Captions
from infogan_dist.sampling.grids import draw_all, fixed_grids, write_grid

STDOUT = Path("-")
THREADS = 1  # per process: another number of threads adds floats in another order and gives other bits


@dataclass(frozen=True)
class EvaluateOptions:
    """The checkpoints, other data than their own, whether to add controls, the supervised one and clustering alone, to average Q over
    augmented copies, to score the refined Q and to name codes, and the JSON file."""

    paths: tuple[Path, ...]
    data: str | None = None
    root: str | None = None
    controls: bool = False
    supervised: bool = False
    clustering: bool = False
    averaged: bool = False
    refined: bool = False
    name_codes: bool = False
    out: Path | None = None
    failed: Mapping[Path, str] = field(default_factory=dict)
    """Runs that are not measured but listed as failed, with the reason."""


def evaluate(options: EvaluateOptions, launch: Launch) -> None:
    """Measure every checkpoint, print a table, write the metrics as JSON. Every rank calls it. Raises as `measured` does."""
    with Group(launch, THREADS, ProcessesConfig()) as group:
        report, lines = measured(options, group)
        group.on_main(lambda: _print_and_write(lines, report, options.out))


def measured(options: EvaluateOptions, group: Group) -> tuple[Metrics, list[str]]:
    """The metrics as JSON holds them, and lines for the user. Every rank calls it.

    The JSON of one checkpoint is its metrics; of several it is {"runs": [metrics, ...], "summary": {...}}, with a row for a run
    without a usable checkpoint. Raises UserError for a path that is no run or checkpoint, before it measures.
    """
    group.on_main(lambda: _check(options))
    data: dict[DataConfig, Reals] = {}
    of_runs: list[Metrics] = []
    rows = [_row(path, options, group, data, of_runs) for path in options.paths]
    report: Metrics = dict(rows[0]) if len(rows) == 1 else {"runs": rows, "summary": summary(rows)}
    of_data = [row for reals in data.values() for row in controls(reals, group)] if options.controls else []
    control_rows = of_data + of_runs
    report |= {"controls": control_rows} if options.controls or options.supervised or options.clustering else {}
    lines = run_report(rows[0]) if len(rows) == 1 else []
    lines += runs_table([*rows, *control_rows], summary(rows)) if control_rows or len(rows) > 1 else []
    return report, lines


def _row(
    path: Path, options: EvaluateOptions, group: Group, data: dict[DataConfig, Reals], controls: list[Metrics]
) -> Metrics:
    """The metrics of one checkpoint; adds the rows of its controls to `controls`.

    Among several, a checkpoint that cannot be used is a failed row instead of an error.
    """
    if path in options.failed:
        return {"checkpoint": str(path), "failed": options.failed[path]}
    try:
        model = from_checkpoint(path / REFINED if options.refined else path, group)
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
    metrics = setup(model, model.origin, reals) | measure(model, reals, group)
    metrics |= averaged_code_error(model, reals, group) if options.averaged else {}
    if options.controls:
        metrics |= factor_floors(model, reals, group)
        controls += feature_controls(model, model.origin.name, reals, group)
    if options.supervised:
        metrics |= factor_ceiling(model.config, reals, group)
        controls += supervised_control(model.config, model.origin.name, reals, group)
    if options.clustering:
        controls += clustering_control(model.config, model.origin.name, reals, group)
    reason = group.on_main(lambda: failure(path, metrics))
    metrics |= {"failed": reason} if reason else {}
    if options.name_codes:
        _name(model, metrics, group)
    return metrics


def _name(model: EvaluatedModel, metrics: Metrics, group: Group) -> None:
    """Write the matching, and a grid with a row per class and the digit that it draws, to the run folder."""
    names = group.on_main(lambda: name_codes(metrics, model.origin))
    grid = fixed_grids(model.spec, model.config.seed)[""]
    drawn = draw_all(lambda latents: model.draw(model.spec.vector(latents)), grid.latents, group.map_batches)
    origin = model.origin
    assert origin is not None
    assert origin.run is not None
    path = origin.run / "samples" / f"step-{origin.step:08d}-named.png"
    captions = grid.titled(f"{origin.run.resolve().name}, step {origin.step:,}, {origin.images_seen:,} images seen")
    words = names.descriptions() if names.code == grid.captions.row_axis else {}
    rows = [words.get(number, name) for number, name in enumerate(captions.rows)]
    group.on_main(lambda: _picture(drawn, grid.columns, path, replace(captions, rows=rows)))


def _picture(images: Tensor, columns: int, path: Path, captions: Captions) -> None:
    path.parent.mkdir(exist_ok=True)
    write_grid(images, columns, path, captions)
    print(f"named grid: {path}")


def setup(model: EvaluatedModel, origin: Origin, reals: Reals) -> Metrics:
    """The checkpoint, data and library versions of the measurement."""
    return {
        "checkpoint": str(origin.path),
        "seed": model.config.seed,
        "step": origin.step,
        "images_seen": origin.images_seen,
        "Q": "refined" if origin.refined else "checkpoint",
        **({"refined": origin.refined} if origin.refined else {}),
        "data": reals.data.name,
        "images": len(reals.test),
        "split": scored_split(reals.data, trained_on(model.config.data, origin, reals)),
        "fresh_images": model.fresh,
        "versions": versions(),
    }


def trained_on(data: DataConfig, origin: Origin, reals: Reals) -> bool:
    """Whether the evaluated images come from `data`, the data set that the run was trained on. A folder at another path counts
    unless its fingerprint differs."""
    if reals.data == data:
        return True
    return reals.data.name == data.name and (
        origin.images is None or origin.images.difference(fingerprint(reals.train)) is None
    )


def _data_for(config: Config, options: EvaluateOptions) -> DataConfig:
    """The run's own data, changed by --data and --root. Raises UserError for an unknown name."""
    given = {"name": options.data, "root": options.root}
    changed: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if not changed:
        return config.data
    values = config.model_dump(mode="json")
    if "name" in changed:
        values["data"]["root"] = None  # the run's own, of another data set
    values["data"] |= changed
    return parse_config(values).data


def _reals(data: DataConfig, group: Group, opened: dict[DataConfig, Reals]) -> Reals:
    if data not in opened:
        opened[data] = group.on_all(lambda: Reals.open(data))
    return opened[data]


def _check(options: EvaluateOptions) -> None:
    """Raises UserError for a path that does not exist, one without a refined Q that should be scored, or a --json file that cannot be
    written, before minutes of measuring."""
    for path in options.paths:
        if not path.exists() and path not in options.failed:
            raise UserError(f"there is no {path}; give a run folder or a checkpoint folder")
        if options.refined and path not in options.failed and not (path / REFINED).exists():
            raise UserError(f"{path} has no refined Q; run `infogan-dist refine {path}` first, or leave out --refined")
    if options.refined and options.name_codes:
        raise UserError("--name-codes names the classes by the checkpoint's Q; give it without --refined")
    if options.out is not None and options.out != STDOUT:
        json_file.check_writable(options.out)


def _print_and_write(lines: Sequence[str], report: Metrics, out: Path | None) -> None:
    print("\n".join(lines))
    if out == STDOUT:
        print(json.dumps(report))
    elif out is not None:
        json_file.write(out, json.dumps(report, indent=1) + "\n")
