"""`bench`: the real training step timed on this machine, what it reduces, and what it would take on more processes."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from infogan_dist.checkpoints import versions
from infogan_dist.config import Config
from infogan_dist.data import ImageSource, open_images
from infogan_dist.distributed import Cluster, resolve_precision
from infogan_dist.distributed.reductions import EXCHANGE, Traffic, exchanges_of
from infogan_dist.ema import update_average
from infogan_dist.errors import UserError
from infogan_dist.launcher import Launch
from infogan_dist.scaling import Link, StepCost
from infogan_dist.sides import owned_networks
from infogan_dist.steps import Game, train_step
from infogan_dist.training import BatchStream, build_game

REPEATS = 5
SECONDS = 2.0  # a repeat lasts at least about so long
LARGE = 2**24  # bytes of the all-reduce that measures a bandwidth
SMALL = 8
BUCKET = 25 * 2**20  # bytes of a DDP bucket by default


@dataclass(frozen=True)
class Target:
    """The number of processes to project to, and their link where it is not the one at hand."""

    processes: int
    link: Link | None


@dataclass(frozen=True)
class Timing:
    """Seconds of a step in each repeat."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Slowest minus fastest repeat, as a share of the median."""
        return (max(self.seconds) - min(self.seconds)) / self.median


def bench(config: Config, launch: Launch, target: Target | None, out: Path | None) -> None:
    """Measure, print a table, and write the figures as JSON to `out`. Every rank calls it; no run folder is touched.

    Raises UserError where `out` cannot be written, and for a projection without a link: one process cannot measure one.
    """
    if target is not None and target.link is None and launch.processes == 1:
        raise UserError("--project from one process needs the link: --bandwidth in GB/s and --latency in microseconds")
    with Cluster(launch, config.train.threads, config.processes) as cluster:
        source = cluster.on_all(lambda: open_images(config.data))
        if out is not None:
            cluster.on_main(
                lambda: _write(out, "")
            )  # a place that cannot be written is told before minutes of measuring
        precision = resolve_precision(config.train.precision, cluster.device)
        config = config.model_copy(update={"train": config.train.model_copy(update={"precision": precision})})
        cluster.configure(config)
        figures = measure(config, cluster, source)
        figures |= project(figures, cluster, target) if target is not None else {}
        cluster.announce(*table(figures))
        if out is not None:
            cluster.on_main(lambda: _write(out, json.dumps(figures, indent=1) + "\n"))


def measure(config: Config, cluster: Cluster, source: ImageSource) -> dict[str, Any]:
    """Rates of the step and what it reduces. On several processes also, in turn with it, of one process's part of it on all
    at once without reductions, and on rank zero while the others rest."""
    batch, game = config.train.global_batch, build_game(config, cluster)
    step = stepper(config, cluster, game, source)
    cluster.settle(game.networks.named().values(), step)
    step()
    cluster.traffic.clear()
    step()
    traffic = cluster.traffic if cluster.processes > 1 else _as_if_reduced(config, game, step)
    calls, sizes = dict(traffic.calls), dict(traffic.bytes)
    contenders = {"together": step}
    if cluster.processes > 1:
        part = config.model_copy(
            update={"train": config.train.model_copy(update={"global_batch": batch // cluster.processes})}
        )
        contenders["alone"] = stepper(part, cluster.alone(), build_game(part, cluster.alone()), source)
        contenders["solo"] = contenders["alone"] if cluster.is_main else lambda: None
    timings = alternate(contenders, cluster)
    together = timings["together"]
    alone = timings.get("alone", together)
    return {
        "images_per_second": batch / together.median,
        "spread": together.spread,
        "seconds": together.median,
        "seconds_without_reductions": alone.median,
        **({"scaling": timings["solo"].median / together.median} if "solo" in timings else {}),
        "reduce_calls": calls,
        "reduced_bytes": sizes,
        "device": str(cluster.device),
        "precision": config.train.precision,
        "threads": torch.get_num_threads(),
        "processes": cluster.processes,
        "global_batch": batch,
        "versions": versions(),
    }


def stepper(config: Config, cluster: Cluster, game: Game, source: ImageSource) -> Callable[[], None]:
    """One whole training step at each call: data, latents, both updates and the average."""
    batches, done = BatchStream(config, cluster, source), [0]

    def step() -> None:
        done[0] += 1
        train_step(game, batches.at(done[0]))
        update_average(game.networks, config.train, done[0])

    return step


def alternate(contenders: dict[str, Callable[[], None]], cluster: Cluster) -> dict[str, Timing]:
    """Each contender timed REPEATS times in turn, so that a change of the machine's mood meets all of them."""

    def seconds(step: Callable[[], None], count: int) -> float:
        cluster.any(False)  # every rank is done with the one before
        cluster.synchronize()
        start = time.perf_counter()
        for _ in range(count):
            step()
        cluster.synchronize()
        return (time.perf_counter() - start) / count

    warm = {name: seconds(step, 2) for name, step in contenders.items()}
    counts = cluster.on_main(lambda: {name: max(2, math.ceil(SECONDS / each)) for name, each in warm.items()})
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(REPEATS):
        for name, step in contenders.items():
            taken[name].append(seconds(step, counts[name]))
    return cluster.on_main(lambda: {name: Timing(tuple(each)) for name, each in taken.items()})


def project(figures: dict[str, Any], cluster: Cluster, target: Target) -> dict[str, Any]:
    """The step on `target.processes`, by the link given or measured; and the model's error for the processes at hand."""
    calls, sizes, processes = figures["reduce_calls"], figures["reduced_bytes"], figures["processes"]
    cost = StepCost(
        compute=figures["seconds_without_reductions"],
        gradient_calls=sum(count for what, count in calls.items() if what != EXCHANGE),
        gradient_bytes=sum(size for what, size in sizes.items() if what != EXCHANGE),
        exchange_calls=calls.get(EXCHANGE, 0),
        exchange_bytes=sizes.get(EXCHANGE, 0) / processes,
    )
    small, large = cluster.all_reduce_seconds(SMALL), cluster.all_reduce_seconds(LARGE)
    here = Link.from_all_reduces(small, large, LARGE, processes) if processes > 1 else None
    link = target.link or here
    assert link is not None, "checked before anything was measured"
    projection: dict[str, Any] = {
        "processes": target.processes,
        "images_per_process": figures["global_batch"] // processes,
        "link": {"bytes_per_second": link.bandwidth, "latency_seconds": link.latency},
        "seconds": cost.seconds(target.processes, link),
        "efficiency": cost.efficiency(target.processes, link),
    }
    if here is not None:
        projection["error_here"] = cost.seconds(processes, here) / figures["seconds"] - 1
    return {"projection": projection}


def table(figures: dict[str, Any]) -> list[str]:
    """The figures in words."""
    processes, seconds = figures["processes"], figures["seconds"]
    among = f"{processes} process{'es' if processes > 1 else ''} of {figures['global_batch'] // processes} images"
    lines = [
        f"images/s   {figures['images_per_second']:.1f} (median of {REPEATS}, spread {figures['spread']:.0%}): {among}, "
        f"{figures['device']}, {figures['precision']}, {figures['threads']} threads",
    ]
    for what, count in figures["reduce_calls"].items():
        condition = "reduces" if processes > 1 else "would reduce"
        lines.append(f"{condition:<10} {what}: {count} calls, {figures['reduced_bytes'][what] / 1e6:.3f} MB a step")
    if processes > 1:
        lines.append(f"reductions {1 - figures['seconds_without_reductions'] / seconds:.1%} of the step")
        lines.append(
            f"scaling    {figures['scaling']:.1%} of {processes} times what one process does while the others rest"
        )
    if "projection" in figures:
        lines += _projected(figures["projection"], processes)
    return lines


def _projected(projection: dict[str, Any], processes: int) -> list[str]:
    link = projection["link"]
    speed, delay = f"{link['bytes_per_second'] / 1e9:.3g} GB/s", f"{link['latency_seconds'] * 1e6:.3g} us"
    many = f"{projection['processes']} processes of {projection['images_per_process']} images"
    step = f"{projection['seconds']:.4g} s a step, {projection['efficiency']:.1%} of linear"
    lines = [f"projected  {many}: {step}, over {speed} and {delay}"]
    if "error_here" in projection:
        error = f"{projection['error_here']:+.1%} for the {processes} processes measured here over their own link"
        lines.append(f"the model  is off by {error}")
    return lines


def _write(out: Path, text: str) -> None:
    try:
        out.write_text(text)
    except OSError as error:
        raise UserError(f"--json {out} cannot be written: {error}") from error


def _as_if_reduced(config: Config, game: Game, step: Callable[[], None]) -> Traffic:
    """What one process would reduce if there were others."""
    traffic = exchanges_of(game.networks.named().values(), step)
    for side, owned in zip(
        (game.discriminator_side, game.generator_side), owned_networks(game.networks, game.objective), strict=True
    ):
        parameters = [parameter for network in owned.values() for parameter in network.parameters()]
        element = 2 if config.processes.compress_gradients == "bf16" else parameters[0].element_size()
        elements = sum(parameter.numel() for parameter in parameters)
        for _ in range(math.ceil(elements * parameters[0].element_size() / BUCKET)):
            traffic.add(type(side).__name__, 0, element)
        traffic.elements[type(side).__name__] += elements
        traffic.bytes[type(side).__name__] += elements * element
    return traffic
