"""What the ranks add up during a step: gradients by DDP, and batch norm's statistics. Every call is counted."""

import collections
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._distributed_c10d import GradBucket
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook, bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel

HOOKS = {"none": allreduce_hook, "bf16": bf16_compress_hook}


class Traffic:
    """Calls, elements and bytes that this rank handed to reductions, by what was reduced."""

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


def reduce_gradients(side: nn.Module, what: str, compression: str, traffic: Traffic) -> None:
    """Have `side` reduce its gradients by DDP's own hook for this compression, and count them as `what`."""
    if not isinstance(side, DistributedDataParallel):
        return
    reduction = HOOKS[compression]

    # DDP reads this signature's annotations: no `from __future__ import annotations` in this file
    def counted(group: Any, bucket: GradBucket) -> torch.futures.Future[Tensor]:
        gradients = bucket.buffer()
        size = 2 if compression == "bf16" else gradients.element_size()
        traffic.add(what, gradients.numel(), size)
        return reduction(group, bucket)

    side.register_comm_hook(None, counted)


def gather_from(processes: int, rank: int, traffic: Traffic) -> Callable[[Tensor], Tensor]:
    """[n] on each rank -> [processes, n] on all, differentiable any number of times on any backend, counted as `batch norm`.

    A sum in which each rank fills its own row: a sum is its own derivative, a gather is not.
    """

    class Sum(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, part: Tensor) -> Tensor:
            total = part.clone(memory_format=torch.contiguous_format)
            torch.distributed.all_reduce(total)
            traffic.add("batch norm", total.numel(), total.element_size())
            return total

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return Sum.apply(gradient)  # type: ignore[no-any-return]

    def gather(ours: Tensor) -> Tensor:
        rows = [ours if other == rank else torch.zeros_like(ours) for other in range(processes)]
        return Sum.apply(torch.stack(rows))  # type: ignore[no-any-return]

    return gather
