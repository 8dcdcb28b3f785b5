"""The limits of this machine, measured with the run's threads: operations per second of matrix products, bandwidth of copies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from infogan_dist.config.section import Precision
from infogan_dist.diagnostics.bench.timing import seconds_per_step
from infogan_dist.diagnostics.bench.work import Product, Work, operations_of
from infogan_dist.distributed.cluster import Cluster, resolve_precision

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp64": torch.float64}
SQUARE = {"cpu": 2048, "cuda": 8192}  # rows of a square product that is limited by arithmetic, not by memory
LAYERS_TRIED = 3  # the largest of the layers' products
COPIED = 2**28  # bytes, more than most caches hold
TRIES, BURST = (
    3,
    0.1,
)  # bursts, and least seconds of each; the fastest counts, because a limit is the best that was reached


@dataclass(frozen=True)
class Limits:
    """Per process while all compute: operations per second by precision, and bytes per second of a copy, read plus written."""

    operations: dict[str, float]
    copy: float


def measure_limits(work: Work, precision: Precision, cluster: Cluster) -> Limits:
    """Every rank calls it at the same time. fp32 follows the run's settings: TF32 on a GPU that has it."""
    square = SQUARE[cluster.device.type]
    products = [(square, square, square), *work.products[:LAYERS_TRIED]]
    operations = {
        name: max(operations_of(product) / _product_seconds(product, name, cluster) for product in products)
        for name in precisions(precision, cluster.device)
    }
    return Limits(operations, 2 * COPIED / _copy_seconds(cluster))


def precisions(ours: Precision, device: torch.device) -> list[str]:
    """The precisions to measure: fp32, that of `auto`, fp16 on a GPU, and the run's own."""
    names = ["fp32", resolve_precision("auto", device), *(["fp16"] if device.type == "cuda" else []), ours]
    return list(dict.fromkeys(names))


def _product_seconds(product: Product, precision: str, cluster: Cluster) -> float:
    rows, inner, columns = product
    a, b = (
        torch.ones(shape, dtype=DTYPES[precision], device=cluster.device) for shape in ((rows, inner), (inner, columns))
    )
    out = a.new_empty(rows, columns)
    return _fastest(lambda: torch.mm(a, b, out=out), cluster)


def _copy_seconds(cluster: Cluster) -> float:
    source, target = (torch.ones(COPIED, dtype=torch.uint8, device=cluster.device) for _ in range(2))
    return _fastest(lambda: target.copy_(source), cluster)


def _fastest(act: Callable[[], object], cluster: Cluster) -> float:
    """Seconds of one `act` in the fastest of TRIES bursts, whose length each rank chooses by its own speed. Every rank calls it."""
    act()
    count = max(1, int(BURST / seconds_per_step(act, 1, cluster)))
    return min(seconds_per_step(act, count, cluster) for _ in range(TRIES))
