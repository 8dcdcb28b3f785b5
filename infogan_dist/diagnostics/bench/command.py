"""The `bench` command: measures, prints a table and writes JSON."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infogan_dist.config.schema import Config
from infogan_dist.data.sources import open_images
from infogan_dist.diagnostics.bench.against import Baseline
from infogan_dist.diagnostics.bench.bench_trainer import BenchTrainer
from infogan_dist.diagnostics.bench.measure import first_step, measure, setup
from infogan_dist.diagnostics.bench.projection import Target, project
from infogan_dist.diagnostics.bench.table import table
from infogan_dist.distributed.cluster import Cluster, resolve_precision
from infogan_dist.distributed.launcher import Launch
from infogan_dist.errors import UserError
from infogan_dist.evaluation import json_file

STDOUT = Path("-")


@dataclass(frozen=True)
class BenchOptions:
    """What to measure besides the step: a projection, a baseline. `out` is the JSON file; `-` is the last line of stdout."""

    target: Target | None = None
    baseline: Baseline | None = None
    out: Path | None = None

    def check(self, launch: Launch) -> None:
        """Raises UserError for options that cannot be measured."""
        if self.target is not None and self.target.link is None and launch.processes == 1:
            raise UserError(
                "--project from one process needs the link: --bandwidth in GB/s and --latency in microseconds"
            )
        if self.baseline is not None:
            self.baseline.check(launch)


def bench(config: Config, launch: Launch, options: BenchOptions) -> None:
    """Measure, print a table, and write the metrics as JSON. Every rank calls it. It uses no run folder.

    Raises UserError for options that cannot be measured, before it measures.
    """
    options.check(launch)
    with Cluster(launch, config.train.threads, config.processes) as cluster:
        file = options.out if options.out != STDOUT else None
        if file is not None:
            cluster.on_main(lambda: json_file.check_writable(file))
        metrics = _metrics(resolved(config, cluster), cluster, options)
        cluster.announce(*table(metrics))
        if options.out == STDOUT:
            cluster.announce(json.dumps(metrics))
        if file is not None:
            cluster.on_main(lambda: json_file.write(file, json.dumps(metrics, indent=1) + "\n"))


def resolved(config: Config, cluster: Cluster) -> Config:
    """The config of a run on this machine, with `auto` precision resolved and without trackers."""
    precision = resolve_precision(config.train.precision, cluster.device)
    train = config.train.model_copy(update={"precision": precision})
    return config.model_copy(update={"train": train, "log": config.log.model_copy(update={"trackers": ()})})


def _metrics(config: Config, cluster: Cluster, options: BenchOptions) -> dict[str, Any]:
    started = time.perf_counter()
    source = cluster.on_all(lambda: open_images(config.data))
    cluster.configure(config)
    trainer = BenchTrainer(config, cluster, source)
    start = {"seconds_to_first_step": first_step(trainer, started)}
    metrics = measure(trainer, source, options.baseline) | start | setup(config, cluster)
    return metrics | (project(metrics, cluster, options.target) if options.target is not None else {})
