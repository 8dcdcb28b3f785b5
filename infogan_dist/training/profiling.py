"""`train --profile`: the time of each operation in a few steps, as a table and as a trace file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.profiler import ProfilerActivity, profile, schedule

from infogan_dist.distributed.cluster import Cluster

SKIPPED = 10  # steps in which compilers and allocators warm up
WARM_UP = 2  # steps that the profiler itself needs
PROFILED = 5  # steps
ROWS = 20  # operations in the table
VIEWER = "https://ui.perfetto.dev"


@contextmanager
def profiled(cluster: Cluster, output: str) -> Iterator[Callable[[], None]]:
    """Within, profile a few steps of training on rank zero. Yields a function to call after each step.

    Prints the slowest operations and writes a trace to `output`/profile. If the trace cannot be written, it prints a message and the
    run continues.
    """
    if not cluster.is_main:
        yield lambda: None
        return
    path, finished = Path(output) / "profile" / "trace.json", []

    def finish(profiler: profile) -> None:
        order = "self_device_time_total" if cluster.device.type == "cuda" else "self_cpu_time_total"
        cluster.announce(profiler.key_averages().table(sort_by=order, row_limit=ROWS))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            profiler.export_chrome_trace(str(path))
            cluster.announce(f"profile: {path} (open it in {VIEWER})")
        except (OSError, RuntimeError) as error:
            cluster.announce(f"the profile cannot be written to {path}: {error}")
        finished.append(path)

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cluster.device.type == "cuda" else [])]
    plan = schedule(skip_first=SKIPPED, wait=0, warmup=WARM_UP, active=PROFILED, repeat=1)
    with profile(activities=activities, schedule=plan, on_trace_ready=finish) as profiler:
        yield profiler.step
    if not finished:
        cluster.announce(f"no profile: it begins after {SKIPPED + WARM_UP} steps, and fewer were trained")


@contextmanager
def not_profiled() -> Iterator[Callable[[], None]]:
    """The same without profiling."""
    yield lambda: None
