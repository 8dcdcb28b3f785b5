"""`bench` as a whole: what is asked for, measured, told and written."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infogan_dist.config.schema import Config
from infogan_dist.data.sources import open_images
from infogan_dist.diagnostics.bench.against import Opponent
from infogan_dist.diagnostics.bench.measure import facts, first_step, measure, peak_memory
from infogan_dist.diagnostics.bench.projection import Target, project
from infogan_dist.diagnostics.bench.subject import Subject
from infogan_dist.diagnostics.bench.table import table
from infogan_dist.diagnostics.bench.until import Goal, train_until
from infogan_dist.distributed.cluster import Cluster, resolve_precision
from infogan_dist.distributed.launcher import Launch
from infogan_dist.errors import UserError
from infogan_dist.evaluation import json_file as figures_file

STDOUT = Path("-")


@dataclass(frozen=True)
class Request:
    """What is asked for beside the figures of the step: a projection, an opponent; or, instead of all these, the time to a
    goal. `out` takes the figures as JSON; `-` is one line, the last, on stdout."""

    target: Target | None = None
    opponent: Opponent | None = None
    goal: Goal | None = None
    out: Path | None = None

    def check(self, config: Config, launch: Launch) -> None:
        """Raises UserError for what could not be measured, before anything is."""
        if self.target is not None and self.target.link is None and launch.processes == 1:
            raise UserError(
                "--project from one process needs the link: --bandwidth in GB/s and --latency in microseconds"
            )
        if self.opponent is not None:
            self.opponent.check(launch)
        if self.goal is not None:
            if self.target is not None or self.opponent is not None:
                raise UserError("--until trains and measures nothing else; give it without --against and --project")
            self.goal.check(config)


def bench(config: Config, launch: Launch, request: Request) -> None:
    """Measure, print a table, and write the figures as JSON. Every rank calls it; no run folder is touched.

    Raises UserError for a request that cannot be met, before it measures.
    """
    request.check(config, launch)
    with Cluster(launch, config.train.threads, config.processes) as cluster:
        file = request.out if request.out != STDOUT else None
        if file is not None:
            cluster.on_main(lambda: figures_file.check_writable(file))
        figures = _figures(resolved(config, cluster), cluster, request)
        cluster.announce(*table(figures))
        if request.out == STDOUT:
            cluster.announce(json.dumps(figures))
        if file is not None:
            cluster.on_main(lambda: figures_file.write(file, json.dumps(figures, indent=1) + "\n"))


def resolved(config: Config, cluster: Cluster) -> Config:
    """What a run here would train, in the precision that `auto` means; without trackers."""
    precision = resolve_precision(config.train.precision, cluster.device)
    train = config.train.model_copy(update={"precision": precision})
    return config.model_copy(update={"train": train, "log": config.log.model_copy(update={"trackers": ()})})


def _figures(config: Config, cluster: Cluster, request: Request) -> dict[str, Any]:
    started = time.perf_counter()
    source = cluster.on_all(lambda: open_images(config.data))
    cluster.configure(config)
    subject = Subject(config, cluster, source)
    if request.goal is not None:
        until = train_until(request.goal, subject, started)
        memory = cluster.on_main(lambda: peak_memory(cluster.device))
        return {"until": until, "peak_memory_bytes": memory, **facts(config, cluster)}
    start = {"seconds_to_first_step": first_step(subject, started)}
    figures = measure(subject, source, request.opponent) | start | facts(config, cluster)
    return figures | (project(figures, cluster, request.target) if request.target is not None else {})
