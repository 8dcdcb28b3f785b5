"""Builds what `train` would build, without a run folder, for the checks of `doctor`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from urllib.request import Request, urlopen

import torch

from infogan_dist.checkpoints.resume import Resume, decide_resume
from infogan_dist.config.model import DataConfig
from infogan_dist.config.schema import Config
from infogan_dist.data.fingerprint import SAMPLED, Fingerprint, fingerprint
from infogan_dist.data.host_memory import bytes_in_use, free_bytes
from infogan_dist.data.mnist_variants import base_of
from infogan_dist.data.sources import ArraySource, ImageSource, open_images
from infogan_dist.data.torchvision_sets import DEFAULT_ROOT, layout_of, load_torchvision, missing
from infogan_dist.diagnostics.memory import allocated_peak, measured_sizes
from infogan_dist.diagnostics.peak_memory import MemoryCheck
from infogan_dist.distributed.agreement import checksums
from infogan_dist.distributed.cluster import Cluster, resolve_precision
from infogan_dist.distributed.launcher import Launch
from infogan_dist.errors import InfoganError, UserError
from infogan_dist.randomness import DataOrder
from infogan_dist.registry.data_sets import DATA_SETS
from infogan_dist.training.batches import batch_unit
from infogan_dist.training.loop import facts_of
from infogan_dist.training.modules import without_gradient
from infogan_dist.training.step import train_step
from infogan_dist.training.trainer import Trainer

TIMED_STEPS = 2
PATIENCE = 5  # seconds to wait for a download server


class OutOfMemory(UserError):
    """A step does not fit in memory. The process itself reports it, because the others wait in a reduction."""

    concerns_one_rank = True


class Preflight:
    """The state of a run before its first step. Every rank makes one.

    `requested` is the config as given, `config` the resolved one. `resume` is where `train` would start, or the error that it would
    raise. `refusal` is the error of this process on opening the images, or None. Where any process has one, all train on grey images
    (`sees_images` is False). `first` are the first images of the run, uint8 [N, C, H, W]; `batch` is this process's first
    micro-batch; `available` is the bytes of the device's memory that it uses now, and its share of the free ones; `facts` must be
    equal on all ranks.
    """

    def __init__(self, requested: Config, launch: Launch, cluster: Cluster):
        self.requested, self.launch, self.cluster = requested, launch, cluster
        self.refusal: UserError | None = None
        images: Fingerprint | None = None
        try:
            source = _open(requested.data)
            images = fingerprint(source)
        except UserError as error:
            self.refusal = error
        self.resume = _resume(requested, cluster, images)
        self.config = self._resolved()
        cluster.configure(self.config)
        if images is not None:
            try:
                self._read(source, images)
            except UserError as error:
                self.refusal = error
        self.sees_images = not cluster.any(self.refusal is not None)
        if not self.sees_images:
            size, channels = self.config.data.image_size, self.config.data.channels
            grey = ArraySource(torch.full((1, channels, size, size), 127, dtype=torch.uint8))
            self._read(grey, fingerprint(grey))
        sharers = 1 if cluster.device.type == "cuda" else launch.local_processes
        self.available = free_bytes(cluster.device) // sharers + bytes_in_use(cluster.device)

    @cached_property
    def unused(self) -> list[str]:
        """The parameters without a gradient after a step of few images, which trains the networks. DDP raises in a second step."""
        few = self.batch.first(measured_sizes(len(self.batch.reals), batch_unit(self.config))[0])
        with self._naming_the_batch(len(few.reals)):
            allocated_peak(lambda: train_step(self.state, [few]), self.cluster.device)
        return without_gradient(self.state.owned_by_D | self.state.owned_by_G)

    @cached_property
    def memory(self) -> MemoryCheck:
        """Of the requested config. It trains the networks."""
        config = self.config.model_copy(update={"objective": self.requested.objective})
        with self._naming_the_batch(len(self.batch.reals)):
            return MemoryCheck(config, self.trainer, self.source, self.cluster, self.available)

    @cached_property
    def too_large(self) -> bool:
        """Whether a step is expected not to fit in memory on a rank."""
        return self.cluster.any(self.memory.peak.total() > self.available)

    @cached_property
    def step(self) -> dict[str, float]:
        """The metrics of the first step. It trains the networks."""
        with self._naming_the_batch(len(self.batch.reals)):
            metrics = self.trainer.step(1)
        return self.cluster.mean(metrics)

    @cached_property
    def step_seconds(self) -> float:
        """Seconds of a step at the end of the run; the faster one of two. It trains the networks."""
        last, times = self.config.train.steps, []
        self.cluster.mean(self.trainer.step(last))
        for _ in range(TIMED_STEPS):
            start = time.perf_counter()
            self.cluster.mean(self.trainer.step(last))  # waits for the device
            times.append(time.perf_counter() - start)
        return min(times)

    @contextmanager
    def _naming_the_batch(self, images: int) -> Iterator[None]:
        """Raises OutOfMemory where torch has no memory for a step of this number of images."""
        try:
            yield
        except RuntimeError as error:
            if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
                raise
            raise OutOfMemory(
                f"out of memory in a step of {images} images on {self.cluster.device}; raise train.accumulate, "
                "set train.gradient_checkpointing = true, or lower train.global_batch or networks.width"
            ) from error

    def _resolved(self) -> Config:
        """The config as `train` would resolve it, or else in the precision `auto`; without trackers and CUDA graph, and without
        neighbours, which take long to find. Its last step has clustering."""
        config, precision = self.requested, resolve_precision("auto", self.cluster.device)
        if isinstance(self.resume, Resume):
            config = self.resume.config
            precision = config.train.precision
        changes = {
            "train": config.train.model_copy(update={"precision": precision, "cuda_graph": False}),
            "objective": config.objective.model_copy(update={"neighbour_positives": 0.0, "clustering_after": 0.0}),
            "log": config.log.model_copy(update={"trackers": ()}),
        }
        return self.cluster.on_main(lambda: config.model_copy(update=changes))

    def _read(self, source: ImageSource, images: Fingerprint) -> None:
        positions = torch.arange(min(self.config.train.global_batch, SAMPLED))
        self.source, self.images = source, len(source)
        self.first = source.read(DataOrder(self.config.seed, self.images).at(positions))
        first = {"the checksum of the first images": checksums({"images": self.first}).item()}
        self.facts = facts_of(self.requested, images) | first
        self.trainer = Trainer(self.config, self.cluster, source)
        self.state, self.batch = self.trainer.state, self.trainer.batches.at(1)[0]


def _resume(requested: Config, cluster: Cluster, images: Fingerprint | None) -> Resume | InfoganError:
    try:
        return cluster.on_main(lambda: decide_resume(requested, "auto", cluster.device, images))
    except InfoganError as error:
        return error


class NotDownloaded(UserError):
    """The images are missing, but `train` can download them."""


def _open(data: DataConfig) -> ImageSource:
    """Open the images without downloading. Raises NotDownloaded where `train` can download them, else UserError."""
    files = base_of(data) if DATA_SETS[data.name].of_mnist else data
    layout = layout_of(files)
    if layout is not None and layout.urls and load_torchvision(files, "train") is None:
        if _answers(layout.urls):
            raise NotDownloaded(
                f"data.root = {files.root or DEFAULT_ROOT} holds no {files.name}; train downloads it first"
            )
        raise UserError(missing(files, "its server does not answer"))
    return open_images(data)


def _answers(urls: list[str]) -> bool:
    for url in urls:
        try:
            with urlopen(Request(url, method="HEAD"), timeout=PATIENCE):  # noqa: S310
                return True
        except OSError:
            continue
    return False
