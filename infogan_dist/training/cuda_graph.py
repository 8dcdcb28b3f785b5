"""Records a training step as one CUDA graph and replays it, without launching its hundreds of kernels one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from infogan_dist.data.augmentation import Augmentation
from infogan_dist.latents import Codes
from infogan_dist.training.perturbation import Perturbation
from infogan_dist.training.step import MicroBatch, Positives, train_step
from infogan_dist.training.train_state import TrainState

WARM_UP = 3  # plain steps before recording, in which libraries choose kernels and Adam creates its state (torch's CUDA graph notes)


class Recorder:
    """Records a CUDA graph on the current device."""

    @contextmanager
    def side_stream(self) -> Iterator[None]:
        """Run plain steps before the recording on a separate stream, as the recording does."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            yield
        torch.cuda.current_stream().wait_stream(stream)

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        """Record the kernels of `step` without running them. Each call of the returned function runs them.

        `thread_local` allows the thread that prefetches images to allocate pinned memory meanwhile.
        """
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            step()
        return graph.replay


class GraphedStep:
    """`train_step` as a CUDA graph, for micro-batches of one shape. The first WARM_UP calls run it without a graph, the next one records
    it. It starts again if the micro-batches get more tensors.

    The next call overwrites the metrics that a call returned.
    """

    def __init__(self, state: TrainState, recorder: Recorder | None = None):
        self._state, self._recorder = state, recorder or Recorder()
        self._inputs: list[MicroBatch] = []
        self._metrics: dict[str, Tensor] = {}
        self._plain_steps = 0
        self._replay: Callable[[], None] | None = None

    def __call__(self, micro_batches: Sequence[MicroBatch]) -> dict[str, Tensor]:
        if len(_all(self._inputs)) != len(_all(micro_batches)):  # the first call, or clustering has started
            self._plain_steps, self._replay = 0, None
            self._inputs = [_like(batch) for batch in micro_batches]
        for target, source in zip(_all(self._inputs), _all(micro_batches), strict=True):
            target.copy_(source)
        if self._plain_steps < WARM_UP:
            self._plain_steps += 1
            with self._recorder.side_stream():
                self._step()
            return self._metrics
        if self._replay is None:
            self._replay = self._recorder.record(self._step)
        self._replay()
        return self._metrics

    def _step(self) -> None:
        self._metrics = train_step(self._state, self._inputs)


def _all(micro_batches: Sequence[MicroBatch]) -> list[Tensor]:
    return [tensor for batch in micro_batches for tensor in _tensors(batch)]


def _tensors(part: object) -> list[Tensor]:
    """Every tensor in a micro-batch, in order."""
    if isinstance(part, Tensor):
        return [part]
    if not is_dataclass(part):
        return []
    return [tensor for field in fields(part) for tensor in _tensors(getattr(part, field.name))]


def _like(part: Any) -> Any:
    """The same structure with new, empty tensors."""
    if isinstance(part, Tensor):
        return torch.empty_like(part)
    if not isinstance(part, (MicroBatch, Codes, Augmentation, Positives, Perturbation)):
        return part
    return replace(part, **{field.name: _like(getattr(part, field.name)) for field in fields(part)})
