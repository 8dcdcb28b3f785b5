"""Predicts the peak memory of a training process from steps of few images, and the remedies where it does not fit.

On a CPU it is the resident memory, on a GPU what torch allocates there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from infogan_dist.config.schema import Config
from infogan_dist.data.host_memory import bytes_in_use, release_freed_memory
from infogan_dist.data.neighbours import search_bytes
from infogan_dist.data.sources import ImageSource, is_in_memory, is_kept_when_read
from infogan_dist.diagnostics.memory import (
    Activations,
    StateMemory,
    allocated_peak,
    bytes_of,
    measured_activations,
    measured_sizes,
    size_text,
    with_checkpointing,
)
from infogan_dist.distributed.cluster import Cluster
from infogan_dist.evaluation.measure import LIVE, LIVE_TEST
from infogan_dist.networks.batch_norm import BatchNorm
from infogan_dist.randomness import DataOrder
from infogan_dist.training.batches import batch_unit
from infogan_dist.training.train_state import TrainState
from infogan_dist.training.trainer import Trainer

EVALUATION_LIBRARIES = 30_000_000  # bytes: scipy and scikit-learn, measured
LARGEST_BATCH = 100_000  # the bound of train.global_batch


@dataclass(frozen=True)
class PeakMemory:
    """Bytes of one process by purpose. `held` for the whole run; `in_step` in a step, beside the `activations` of a micro-batch of
    `images`; `moments` at other moments, one of which is active at a time."""

    held: dict[str, int]
    in_step: dict[str, int]
    moments: dict[str, int]
    activations: Activations
    images: int

    def parts(self, images: int | None = None) -> dict[str, int]:
        """The bytes at the largest moment, for micro-batches of another number of images if given."""
        step = {"activations": self.activations.at(images or self.images), **self.in_step}
        largest = max(
            (step, *({name: size} for name, size in self.moments.items())), key=lambda each: sum(each.values())
        )
        return {name: size for name, size in (self.held | largest).items() if size}

    def total(self, images: int | None = None) -> int:
        return sum(self.parts(images).values())

    def most_images(self, available: int) -> int:
        """The largest micro-batch that fits in `available` bytes, or 0."""
        held = sum(self.held.values())
        if held + max(self.moments.values(), default=0) > available:
            return 0
        return self.activations.most_images(available - held - sum(self.in_step.values()))


class MemoryCheck:
    """Measures steps of few images, which train the networks. Every rank makes one and calls its methods in the same order.

    `available` is the bytes that this process may use in all. `config` is that of the run, which `trainer` may have without neighbours.
    """

    def __init__(self, config: Config, trainer: Trainer, source: ImageSource, cluster: Cluster, available: int):
        self.config, self.available = config, available
        self._trainer, self._source, self._cluster = trainer, source, cluster
        self._batch = trainer.batches.at(config.train.steps)[0]  # with every term of the loss
        self._state_memory = StateMemory.of(trainer.state.networks)
        self._reading = 0 if is_in_memory(source) else allocated_peak(self._read, cluster.device)
        activations = self._measured(trainer.state, config.train.accumulate > 1)
        self.peak = PeakMemory(self._held(), self._in_step(), self._moments(), activations, len(self._batch.reals))

    def remedies(self, largest_batch: int) -> list[str]:
        """The keys to set, each with the peak that it gives."""
        found, train = [], self.config.train
        if largest_batch:
            images = largest_batch // (self._cluster.processes * train.accumulate)
            found.append(f"train.global_batch = {largest_batch:,} gives {size_text(self.peak.total(images))}")
        accumulated, checkpointed = self.accumulated(), self.checkpointed()
        if accumulated is not None:
            norms = ", with batch norms of smaller batches" if self._has_batch_norm else ""
            found.append(f"train.accumulate = {accumulated[0]} gives {size_text(accumulated[1])}{norms}")
        if checkpointed is not None:
            found.append(f"train.gradient_checkpointing = true gives {size_text(checkpointed)}")
        return [*found, "lower networks.width or free memory"]

    @property
    def _has_batch_norm(self) -> bool:
        named = self._trainer.state.networks.named().values()
        return any(isinstance(module, BatchNorm) for network in named for module in network.modules())

    def largest_batch(self) -> int:
        """The largest train.global_batch that fits on every rank, at most its bound; 0 if none does."""
        train, processes = self.config.train, self._cluster.processes
        fitting = min(self._cluster.poll(self.peak.most_images(self.available)))
        most = min(fitting, LARGEST_BATCH // (processes * train.accumulate))
        return (most - most % batch_unit(self.config)) * processes * train.accumulate

    def accumulated(self) -> tuple[int, int] | None:
        """The smallest larger train.accumulate that fits on every rank, and its peak in bytes; None if there is none."""
        train, processes = self.config.train, self._cluster.processes
        peak = replace(self.peak, activations=self._measured(self._trainer.state, accumulates=True))
        fitting = min(self._cluster.poll(peak.most_images(self.available)))
        share = train.global_batch // processes
        for accumulate in range(train.accumulate + 1, share + 1):
            images = share // accumulate
            if share % accumulate == 0 and images % batch_unit(self.config) == 0 and images <= fitting:
                return accumulate, peak.total(images)
        return None

    def checkpointed(self) -> int | None:
        """The peak in bytes with train.gradient_checkpointing; None if it is on or not supported by the config."""
        train = self.config.train
        if train.gradient_checkpointing or train.compile or train.cuda_graph:
            return None
        with with_checkpointing(self._trainer.state) as state:
            return replace(self.peak, activations=self._measured(state, train.accumulate > 1)).total()

    def _measured(self, state: TrainState, accumulates: bool) -> Activations:
        parts = self._state_memory
        free = self.available - bytes_in_use(self._cluster.device) - sum(self._in_step().values())
        if not any(state.optimizer_D.state.values()):
            free -= parts.gradients + parts.optimizer
        sizes = measured_sizes(len(self._batch.reals), batch_unit(self.config))
        return measured_activations(
            state, self._batch, sizes, accumulates, fits=lambda size: not self._cluster.any(size > free)
        )

    def _held(self) -> dict[str, int]:
        """Called after the measured steps, so that the process has loaded its kernels."""
        state = self._state_memory
        release_freed_memory()
        held = {"process": max(0, bytes_in_use(self._cluster.device) - sum(state)), **state._asdict()}
        if self._cluster.device.type == "cuda":
            return held
        image = self._batch.reals[0].numel()
        train, kept, in_memory = self.config.train, is_kept_when_read(self._source), is_in_memory(self._source)
        if kept:
            held["images"] = image * min(len(self._source), train.steps * train.global_batch // self._cluster.processes)
        if self.config.evaluate.every:
            opened = len(self._source) + LIVE_TEST if in_memory else LIVE + LIVE_TEST if kept else 0
            held["evaluation"] = image * opened + EVALUATION_LIBRARIES
        return held

    def _in_step(self) -> dict[str, int]:
        if self._cluster.device.type == "cuda":
            return {}
        train, checkpoint = self.config.train, self.config.checkpoint
        copies = checkpoint.background and 0 < checkpoint.every < train.steps and self._cluster.is_main
        return {"saving": self._state_memory.checkpoint + self._writing if copies else 0, "reading": self._reading}

    def _moments(self) -> dict[str, int]:
        if self._cluster.device.type == "cuda":
            return {}
        objective, moments = self.config.objective, {"saving": self._writing}
        if objective.lambda_clustering and objective.neighbour_positives:
            moments["neighbour search"] = search_bytes(len(self._source))
        return moments

    @property
    def _writing(self) -> int:
        """Bytes of the largest file of a checkpoint, Adam's moments of D or G, twice: as tensors and as the file."""
        state = self._trainer.state
        owned = (
            bytes_of(parameter for network in networks.values() for parameter in network.parameters())
            for networks in (state.owned_by_D, state.owned_by_G)
        )
        return 2 * 2 * max(owned)

    def _read(self) -> None:
        """Read a micro-batch from the middle of the run."""
        train = self.config.train
        first = train.steps // 2 * train.global_batch
        positions = torch.arange(first, first + len(self._batch.reals))
        self._source.read(DataOrder(self.config.seed, len(self._source)).at(positions))
