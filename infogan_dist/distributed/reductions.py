"""The reductions of a step: gradients by DDP, and batch norm's statistics. Every call is counted."""

import collections
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._distributed_c10d import GradBucket
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook, bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from infogan_dist.networks.batch_norm import BatchNorm

EXCHANGE = "batch norm"  # the counters' name for its statistics
HOOKS = {"none": allreduce_hook, "bf16": bf16_compress_hook}


class Traffic:
    """Calls, elements and bytes of this rank's reductions, by what was reduced."""

    def __init__(self) -> None:
        self.calls: collections.Counter[str] = collections.Counter()
        self.elements: collections.Counter[str] = collections.Counter()
        self.bytes: collections.Counter[str] = collections.Counter()

    def add(self, what: str, elements: int, element_size: int) -> None:
        self.calls[what] += 1
        self.elements[what] += elements
        self.bytes[what] += elements * element_size

    def clear(self) -> None:
        for counter in (self.calls, self.elements, self.bytes):
            counter.clear()


def reduce_gradients(module: nn.Module, what: str, compression: str, traffic: Traffic) -> None:
    """Have a DDP `module` reduce its gradients with DDP's hook for this compression, and count them as `what`."""
    if not isinstance(module, DistributedDataParallel):
        return
    reduction = HOOKS[compression]

    # DDP reads this signature's annotations: no `from __future__ import annotations` in this file
    def counted(group: Any, bucket: GradBucket) -> torch.futures.Future[Tensor]:
        gradients = bucket.buffer()
        size = 2 if compression == "bf16" else gradients.element_size()
        traffic.add(what, gradients.numel(), size)
        return reduction(group, bucket)

    module.register_comm_hook(None, counted)


def gather_from(
    processes: int,
    rank: int,
    traffic: Traffic,
    what: str = EXCHANGE,
    add_up: Callable[[Tensor], object] = torch.distributed.all_reduce,
) -> Callable[[Tensor], Tensor]:
    """A gather [n] -> [processes, n], differentiable any number of times on any backend, and counted as `what`.

    It is an all-reduce (`add_up`, in place) in which each rank fills its own row. A sum is its own derivative, a gather is not.
    """

    class Sum(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, part: Tensor) -> Tensor:
            total = part.clone(memory_format=torch.contiguous_format)
            add_up(total)
            traffic.add(what, total.numel(), total.element_size())
            return total

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return Sum.apply(gradient)  # type: ignore[no-any-return]

    def gather(ours: Tensor) -> Tensor:
        rows = [ours if other == rank else torch.zeros_like(ours) for other in range(processes)]
        return Sum.apply(torch.stack(rows))  # type: ignore[no-any-return]

    return gather


def exchanges_of(networks: Iterable[nn.Module], step: Callable[[], object]) -> Traffic:
    """The traffic of batch norm in `step`, if the batch were split over several processes."""
    norms = [module for network in networks for module in network.modules() if type(module) is BatchNorm]
    before = [(module, module.gather_parts) for module in norms]
    traffic = Traffic()
    for module in norms:
        module.gather_parts = gather_from(1, 0, traffic, add_up=lambda part: None)
    step()
    for module, gather_parts in before:
        module.gather_parts = gather_parts
    return traffic
