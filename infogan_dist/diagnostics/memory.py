"""Bytes of tensors by purpose, and the bytes that a step allocates, measured on steps of few images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._C._autograd import _disable_profiler_legacy, _enable_profiler_legacy
from torch._C._profiler import ProfilerConfig, ProfilerState, _ExperimentalConfig

from infogan_dist.networks import Networks
from infogan_dist.training.step import MicroBatch, train_step
from infogan_dist.training.train_state import TrainState

SMALLEST = 4  # measured micro-batches start at this part of the configured one


class StateMemory(NamedTuple):
    """Bytes of one process that a step needs for any batch, by purpose: `optimizer` is Adam's two moments, `average` is G_ema."""

    weights: int
    gradients: int
    optimizer: int
    average: int

    @classmethod
    def of(cls, networks: Networks) -> StateMemory:
        named = networks.named()
        average = bytes_of(named.pop("G_ema").state_dict().values())
        trained = bytes_of(parameter for network in named.values() for parameter in network.parameters())
        weights = bytes_of(tensor for network in named.values() for tensor in network.state_dict().values())
        return cls(weights, trained, 2 * trained, average)

    @property
    def checkpoint(self) -> int:
        """Bytes of a checkpoint."""
        return self.weights + self.optimizer + self.average


@dataclass(frozen=True)
class Activations:
    """The bytes that a step allocates at most at one time, beside `StateMemory`: activations, their gradients, cast weights and the
    workspace of kernels. A line in the number of images of a micro-batch."""

    fixed: float
    per_image: float

    def at(self, images: int) -> int:
        return round(self.fixed + self.per_image * images)

    def most_images(self, available: int) -> int:
        """The largest micro-batch that needs at most `available` bytes, or 0."""
        return max(0, int((available - self.fixed) // self.per_image))

    @classmethod
    def through(cls, peaks: dict[int, int]) -> Activations:
        """The line through the measured bytes of the two largest numbers of images. Through 0 if there is one measurement.

        The bytes are the largest of several sums, each a line in the number of images, so a line through small batches is too flat.
        """
        (large, at_large), (small, at_small) = [*sorted(peaks.items(), reverse=True), (0, 0)][:2]
        per_image = max(0.0, at_large - at_small) / (large - small)
        return cls(at_large - per_image * large, per_image)


def measured_activations(
    state: TrainState, batch: MicroBatch, sizes: Sequence[int], accumulates: bool, fits: Callable[[int], bool]
) -> Activations:
    """Measure steps of the first `sizes` images of `batch`, in this order, up to the last one whose expected bytes `fits` allows. They
    train the networks. Every rank calls it, and `fits` answers the same on all ranks.

    `accumulates`: the step has several micro-batches, so that G's images are drawn twice and its graph is not kept in the D step.
    """

    def measure(images: int) -> int:
        part = [batch.first(images)] * (2 if accumulates else 1)
        return allocated_peak(lambda: train_step(state, part), batch.reals.device)

    peaks = dict[int, int]()
    for optimizer in (state.optimizer_D, state.optimizer_G):
        optimizer.zero_grad()  # a profile counts a release only if it, or an earlier one, saw the allocation
    measure(sizes[0])  # makes gradients and Adam's moments, and compiles kernels
    for images in sizes:
        if peaks and not fits(Activations.through(peaks).at(images)):
            break
        peaks[images] = measure(images)
    return Activations.through(peaks)


def measured_sizes(images: int, unit: int) -> list[int]:
    """The sizes of the measured micro-batches: a quarter, half and all of `images`, as multiples of `unit`; even if `images` is."""
    unit = math.lcm(unit, 2 if images % 2 == 0 else 1)
    parts = (images // part // unit * unit for part in (SMALLEST, 2, 1))
    return sorted({part for part in parts if part})


def allocated_peak(action: Callable[[], object], device: torch.device) -> int:
    """The bytes that torch allocates at most at one time in `action`, beside those that were allocated before."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        action()
        return int(torch.cuda.max_memory_allocated(device)) - before
    # torch's newer profiler prints lines
    on_cpu = ProfilerConfig(ProfilerState.CPU, False, True, False, False, False, _ExperimentalConfig())
    _enable_profiler_legacy(on_cpu)
    try:
        action()
    finally:
        threads: Sequence[Sequence[Any]] = _disable_profiler_legacy()
    sizes = [each.cpu_memory_usage() for events in threads for each in events if each.kind() == "memory_alloc"]
    return int(max(accumulate(sizes, initial=0)))


@contextmanager
def with_checkpointing(state: TrainState) -> Iterator[TrainState]:
    """Within, `state` with gradient checkpointing."""
    modules = [getattr(module, "module", module) for module in (state.discriminator_module, state.generator_module)]
    before = [module.checkpointing for module in modules]
    try:
        for module in modules:
            module.checkpointing = True
        yield replace(state, checkpointing=True)
    finally:
        for module, value in zip(modules, before, strict=True):
            module.checkpointing = value


def size_text(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def bytes_of(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
