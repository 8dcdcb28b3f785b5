"""The metrics of a step: rate, phases, operations and the machine's limits, memory and reductions."""

from __future__ import annotations

import math
import time
from typing import Any

import torch

from infogan_dist.checkpoints.store import versions
from infogan_dist.config.schema import Config
from infogan_dist.data.host_memory import peak_bytes
from infogan_dist.data.sources import ImageSource
from infogan_dist.diagnostics.bench.against import Baseline, compare
from infogan_dist.diagnostics.bench.bench_trainer import BenchTrainer
from infogan_dist.diagnostics.bench.limits import Limits, measure_limits
from infogan_dist.diagnostics.bench.memory_traffic import memory_traffic
from infogan_dist.diagnostics.bench.phases import REDUCE, seconds_by_phase
from infogan_dist.diagnostics.bench.timing import Step, Timing, alternate, steps_per_repeat
from infogan_dist.diagnostics.bench.work import Work, work_of
from infogan_dist.distributed.cluster import Cluster
from infogan_dist.distributed.reductions import Traffic, exchanges_of

BUCKET = 25 * 2**20  # bytes of a DDP bucket by default


def first_step(trainer: BenchTrainer, started: float) -> float:
    """Take the first step. Returns the seconds from `started`, on time.perf_counter's clock. Every rank calls it."""
    trainer.step()
    trainer.cluster.synchronize()
    seconds = time.perf_counter() - started
    return trainer.cluster.on_main(lambda: seconds)


def measure(trainer: BenchTrainer, source: ImageSource, baseline: Baseline | None) -> dict[str, Any]:
    """All metrics of the step except the time to the first one. Every rank calls it.

    On several processes it also times, in alternation, one process's part of the step without reductions: on all processes at
    once, and on rank zero while the others are idle.
    """
    config, cluster = trainer.config, trainer.cluster
    # the baseline comes first, so that a wrong command fails at once
    comparison = compare(trainer, baseline) if baseline is not None else None
    reductions = _reductions(trainer)
    work = work_of(trainer.plain_step, trainer.state.networks.named().values())
    moved = memory_traffic(trainer.plain_step, trainer.state)
    memory = cluster.on_main(lambda: peak_memory(cluster.device))
    alone = _alone(trainer, source) if cluster.processes > 1 else trainer
    timings = {"together": comparison.ours} if comparison is not None else alternate(_steps(trainer, alone), cluster)
    together, without = timings["together"], timings.get("alone", timings["together"])
    phases = seconds_by_phase(alone, steps_per_repeat({"alone": alone.plain_step}, cluster)["alone"])
    if cluster.processes > 1:
        phases[REDUCE] = together.median - without.median
    limits = measure_limits(work, config.train.precision, cluster)
    return (
        _rates(together, without, config)
        | (comparison.metrics(config.train.global_batch) if comparison is not None else {})
        | ({"scaling": timings["solo"].median / together.median} if "solo" in timings else {})
        | {"phases": cluster.on_main(lambda: phases)}
        | cluster.on_main(lambda: efficiency(work, moved, limits, together.median, config.train.precision))
        | {"peak_memory_bytes": memory}
        | reductions
    )


def setup(config: Config, cluster: Cluster) -> dict[str, Any]:
    """The device, precision, threads, processes, batch and versions of the measurement."""
    return {
        "device": str(cluster.device),
        "precision": config.train.precision,
        "threads": torch.get_num_threads(),
        "processes": cluster.processes,
        "global_batch": config.train.global_batch,
        "versions": versions(),
    }


def efficiency(work: Work, moved: dict[str, int], limits: Limits, seconds: float, precision: str) -> dict[str, Any]:
    """One process's operations in a step of `seconds`, their rate, and its share of the limit of one process while all compute.

    `share_of_limits` also counts the bytes `moved`, by cause, at the rate of copies: it is the time of both, one after the other, at
    their limits, relative to `seconds`.
    """
    rate, limit = work.operations / seconds, limits.operations[precision]
    return {
        "operations": work.operations,
        "operations_per_second": rate,
        "limits": {"operations_per_second": limits.operations, "copied_bytes_per_second": limits.copy},
        "share_of_limit": rate / limit,
        "moved_bytes": moved,
        "share_of_limits": (work.operations / limit + sum(moved.values()) / limits.copy) / seconds,
    }


def peak_memory(device: torch.device) -> int:
    """The peak memory of this process in bytes: of tensors on a GPU, of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_bytes()


def _rates(together: Timing, without: Timing, config: Config) -> dict[str, Any]:
    return {
        "images_per_second": config.train.global_batch / together.median,
        "spread": together.spread,
        "repeats": len(together.seconds),
        "seconds": together.median,
        "seconds_without_reductions": without.median,
    }


def _alone(trainer: BenchTrainer, source: ImageSource) -> BenchTrainer:
    """One process's part of the step, without reductions."""
    train = trainer.config.train
    part = train.model_copy(update={"global_batch": train.global_batch // trainer.cluster.processes})
    return BenchTrainer(trainer.config.model_copy(update={"train": part}), trainer.cluster.alone(), source)


def _steps(trainer: BenchTrainer, alone: BenchTrainer) -> dict[str, Step]:
    """The steps to time in alternation."""
    if trainer.cluster.processes == 1:
        return {"together": trainer.step}
    solo: Step = alone.step if trainer.cluster.is_main else lambda: None
    return {"together": trainer.step, "alone": alone.step, "solo": solo}


def _reductions(trainer: BenchTrainer) -> dict[str, Any]:
    """Calls and bytes of a step's reductions; on one process those it would have on several."""
    traffic = trainer.cluster.traffic
    if trainer.cluster.processes == 1:
        traffic = _as_if_reduced(trainer)
    else:
        traffic.clear()
        trainer.step()
    return {"reduce_calls": dict(traffic.calls), "reduced_bytes": dict(traffic.bytes)}


def _as_if_reduced(trainer: BenchTrainer) -> Traffic:
    config, state = trainer.config, trainer.state
    traffic = exchanges_of(state.networks.named().values(), trainer.plain_step)
    for module, owned in (
        (state.discriminator_module, state.owned_by_D),
        (state.generator_module, state.owned_by_G),
    ):
        parameters = [parameter for network in owned.values() for parameter in network.parameters()]
        element = 2 if config.processes.compress_gradients == "bf16" else parameters[0].element_size()
        elements = sum(parameter.numel() for parameter in parameters)
        for _ in range(math.ceil(elements * parameters[0].element_size() / BUCKET)):
            traffic.add(type(module).__name__, 0, element)
        traffic.elements[type(module).__name__] += elements
        traffic.bytes[type(module).__name__] += elements * element
    return traffic
