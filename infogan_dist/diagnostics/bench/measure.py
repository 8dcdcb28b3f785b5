"""The figures of a step: its rate, its phases, its work beside the machine's limits, its memory and what it reduces."""

from __future__ import annotations

import math
import time
from typing import Any

import torch

from infogan_dist.checkpoints.store import versions
from infogan_dist.config.schema import Config
from infogan_dist.data.host_memory import peak_bytes
from infogan_dist.data.sources import ImageSource
from infogan_dist.diagnostics.bench.against import Opponent, compete
from infogan_dist.diagnostics.bench.limits import Limits, measure_limits
from infogan_dist.diagnostics.bench.phases import REDUCE, seconds_by_phase
from infogan_dist.diagnostics.bench.subject import Subject
from infogan_dist.diagnostics.bench.timing import Step, Timing, alternate, counts_of_a_repeat
from infogan_dist.diagnostics.bench.upkeep import upkeep
from infogan_dist.diagnostics.bench.work import Work, work_of
from infogan_dist.distributed.cluster import Cluster
from infogan_dist.distributed.reductions import Traffic, exchanges_of

BUCKET = 25 * 2**20  # bytes of a DDP bucket by default


def first_step(subject: Subject, started: float) -> float:
    """Take it; the seconds from `started`, on time.perf_counter's clock, to its end. Every rank calls it."""
    subject.step()
    subject.cluster.synchronize()
    seconds = time.perf_counter() - started
    return subject.cluster.on_main(lambda: seconds)


def measure(subject: Subject, source: ImageSource, opponent: Opponent | None) -> dict[str, Any]:
    """Every figure of the step but the time to the first one. Every rank calls it.

    On several processes also, in turn with the step, one process's part of it on all at once without reductions, and on rank
    zero while the others rest.
    """
    config, cluster = subject.config, subject.cluster
    # the command comes first, so that a wrong one is told at once
    duel = compete(subject, opponent) if opponent is not None else None
    reductions = _reductions(subject)
    work = work_of(subject.plain_step, subject.trainer.state.networks.named().values())
    memory = cluster.on_main(lambda: peak_memory(cluster.device))
    alone = _alone(subject, source) if cluster.processes > 1 else subject
    timings = {"together": duel.ours} if duel is not None else alternate(_contenders(subject, alone), cluster)
    together, without = timings["together"], timings.get("alone", timings["together"])
    phases = seconds_by_phase(alone, counts_of_a_repeat({"alone": alone.plain_step}, cluster)["alone"])
    if cluster.processes > 1:
        phases[REDUCE] = together.median - without.median
    limits = measure_limits(work, config.train.precision, cluster)
    return (
        _rates(together, without, config)
        | (duel.figures(config.train.global_batch) if duel is not None else {})
        | ({"scaling": timings["solo"].median / together.median} if "solo" in timings else {})
        | {"phases": cluster.on_main(lambda: phases)}
        | cluster.on_main(lambda: efficiency(work, limits, together.median, config.train.precision))
        | {"peak_memory_bytes": memory, "upkeep": upkeep(subject, together.median)}
        | reductions
    )


def facts(config: Config, cluster: Cluster) -> dict[str, Any]:
    """What the figures are of."""
    return {
        "device": str(cluster.device),
        "precision": config.train.precision,
        "threads": torch.get_num_threads(),
        "processes": cluster.processes,
        "global_batch": config.train.global_batch,
        "versions": versions(),
    }


def efficiency(work: Work, limits: Limits, seconds: float, precision: str) -> dict[str, Any]:
    """One process's operations of a step of so many seconds, beside what one process can do while all compute."""
    rate = work.operations / seconds
    return {
        "operations": work.operations,
        "operations_per_second": rate,
        "limits": {"operations_per_second": limits.operations, "copied_bytes_per_second": limits.copy},
        "share_of_limit": rate / limits.operations[precision],
    }


def peak_memory(device: torch.device) -> int:
    """The most bytes that this process held so far: tensors on a GPU, everything on a CPU."""
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


def _alone(subject: Subject, source: ImageSource) -> Subject:
    """One process's part of the subject's step, without reductions."""
    train = subject.config.train
    part = train.model_copy(update={"global_batch": train.global_batch // subject.cluster.processes})
    return Subject(subject.config.model_copy(update={"train": part}), subject.cluster.alone(), source)


def _contenders(subject: Subject, alone: Subject) -> dict[str, Step]:
    if subject.cluster.processes == 1:
        return {"together": subject.step}
    solo: Step = alone.step if subject.cluster.is_main else lambda: None
    return {"together": subject.step, "alone": alone.step, "solo": solo}


def _reductions(subject: Subject) -> dict[str, Any]:
    """What a step reduces; on one process what it would reduce if there were others."""
    traffic = subject.cluster.traffic
    if subject.cluster.processes == 1:
        traffic = _as_if_reduced(subject)
    else:
        traffic.clear()
        subject.step()
    return {"reduce_calls": dict(traffic.calls), "reduced_bytes": dict(traffic.bytes)}


def _as_if_reduced(subject: Subject) -> Traffic:
    config, state = subject.config, subject.trainer.state
    traffic = exchanges_of(state.networks.named().values(), subject.plain_step)
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
