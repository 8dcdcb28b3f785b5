"""The whole step as one CUDA graph: recorded once, then replayed without launching its hundreds of kernels one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from infogan_dist.data.augmentation import Augmentation
from infogan_dist.latents import Codes
from infogan_dist.training.step import MicroBatch, Positives, train_step
from infogan_dist.training.train_state import TrainState

WARM_UP = 3  # plain steps first, in which the libraries choose kernels and Adam makes its state (torch's notes on CUDA graphs)


class Recorder:
    """Records on the current CUDA device."""

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Around a plain step before the recording: on a stream of its own, as recording will be."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            yield
        torch.cuda.current_stream().wait_stream(stream)

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        """What `step` launches, to be launched again at each call. Recording does not run it.

        The thread that reads images ahead may allocate pinned memory meanwhile, which the default mode forbids to all threads.
        """
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            step()
        return graph.replay


class GraphedStep:
    """`train_step` of one state, called with micro-batches of one shape. Where these get more parts it starts
    anew. The first calls run it plainly, the next records it.

    The metrics that a call returns are overwritten by the next.
    """

    def __init__(self, state: TrainState, recorder: Recorder | None = None):
        self._state, self._recorder = state, recorder or Recorder()
        self._inputs: list[MicroBatch] = []
        self._metrics: dict[str, Tensor] = {}
        self._plain_steps = 0
        self._replay: Callable[[], None] | None = None

    def __call__(self, micro_batches: Sequence[MicroBatch]) -> dict[str, Tensor]:
        if len(_all(self._inputs)) != len(_all(micro_batches)):  # the first, or a term has set in: another graph
            self._plain_steps, self._replay = 0, None
            self._inputs = [_like(batch) for batch in micro_batches]
        for target, source in zip(_all(self._inputs), _all(micro_batches), strict=True):
            target.copy_(source)
        if self._plain_steps < WARM_UP:
            self._plain_steps += 1
            with self._recorder.aside():
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
    """The same with tensors of its own."""
    if isinstance(part, Tensor):
        return torch.empty_like(part)
    if not isinstance(part, (MicroBatch, Codes, Augmentation, Positives)):
        return part
    return replace(part, **{field.name: _like(getattr(part, field.name)) for field in fields(part)})
