"""`doctor`: what would go wrong in training, told before it starts. A new check is one function in CHECKS.

Every rank runs every check; nothing is trained for good and nothing is left on disk.
"""

from __future__ import annotations

import math
import shutil
import socket
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.request import Request, urlopen

import torch
from torch import Tensor

from infogan_dist import checkpoints
from infogan_dist.config import Config, DataConfig
from infogan_dist.data import ImageSource, open_images
from infogan_dist.data.sources import DEFAULT_ROOT, TORCHVISION, ArraySource
from infogan_dist.distributed import Cluster, check_trackers, checksums, resolve_precision
from infogan_dist.errors import InfoganError, UserError
from infogan_dist.launcher import Launch
from infogan_dist.memory import StepMemory, free_bytes, measured_step
from infogan_dist.networks.layers import untouched
from infogan_dist.randomness import DataOrder
from infogan_dist.run_folder import Admission, admit, check_writable, nearest_folder, who_trains_in
from infogan_dist.sides import owned_networks, without_gradient
from infogan_dist.steps import Game, MicroBatch
from infogan_dist.training import BatchStream, build_game, facts_of

PATIENCE = 5  # seconds for a download server to answer
LATENCY_BYTES = 8  # of an all-reduce whose time is latency alone
DARKEST, BRIGHTEST = -1.0, 1.0  # what G's tanh reaches
NARROW = 0.1  # of that range: reals that use less are probably not uint8
ROUNDING = 1e-6


class Finding(NamedTuple):
    """One line for the user: what is so and, where it is not well, what to mend."""

    level: Literal["ok", "warning", "problem"]
    text: str

    def __str__(self) -> str:
        return f"{self.level:<7} {self.text}"


class OutOfMemory(UserError):
    """One step does not fit. A rank that meets it cannot tell the others first: they wait for it in a reduction."""

    concerns_one_rank = True


def doctor(config: Config, launch: Launch) -> None:
    """Print a line for each finding. Every rank calls it. Raises UserError where there is a problem."""
    gpus = torch.cuda.device_count()
    if not launch.cpu and 0 < gpus < launch.local_processes:
        raise UserError(
            f"{launch.local_processes} processes were started on a host with {gpus} GPUs; start one for each"
        )
    problems = 0
    with Cluster(launch, config.train.threads, config.processes) as cluster:
        exam = Exam(config, launch, cluster)
        for check in CHECKS:
            for finding in check(exam):
                cluster.announce(str(finding))
                problems += finding.level == "problem"
    if problems:
        raise UserError(f"{problems} problem{'s' if problems > 1 else ''} to mend before {config.output} can train")


class Exam:
    """What the checks look at, each part made when a check first asks for it: by every rank at the same point."""

    def __init__(self, config: Config, launch: Launch, cluster: Cluster):
        self.asked, self.launch, self.cluster = config, launch, cluster

    @cached_property
    def admission(self) -> Admission | InfoganError:
        """What train would do in the output folder, or why it would not."""
        try:
            return self.cluster.on_main(lambda: admit(self.asked, "auto", self.cluster.device))
        except InfoganError as error:
            return error

    @cached_property
    def config(self) -> Config:
        """The config as train would resolve it; where it would refuse, near enough to check the rest. Without trackers."""
        if isinstance(self.admission, Admission):
            config = self.admission.config
        else:
            fallback = {"precision": resolve_precision("auto", self.cluster.device)}
            asked = self.asked.model_copy(update={"train": self.asked.train.model_copy(update=fallback)})
            config = self.cluster.on_main(lambda: asked)
        return config.model_copy(update={"log": config.log.model_copy(update={"trackers": ()})})

    @cached_property
    def data(self) -> ImageSource | InfoganError | None:
        """The images; or why some rank has none; or None where some rank would download them first."""
        try:
            opened = self.cluster.on_all(lambda: _open(self.asked.data))
        except InfoganError as error:
            return error
        return None if self.cluster.any(opened is None) else opened

    @cached_property
    def batch(self) -> MicroBatch:
        """This rank's part of the first micro-batch, of a stand-in where there are no images."""
        size, channels = self.config.data.image_size, self.config.data.channels
        grey = ArraySource(torch.full((1, channels, size, size), 127, dtype=torch.uint8))
        source = grey if self.data is None or isinstance(self.data, InfoganError) else self.data
        return self.cluster.on_all(lambda: BatchStream(self.config, self.cluster, source).at(1)[0])

    @cached_property
    def free(self) -> int:
        """Bytes that this process may take of its device's memory, once the images are in it."""
        self.batch  # noqa: B018
        sharers = 1 if self.cluster.device.type == "cuda" else self.launch.local_processes
        return free_bytes(self.cluster.device) // sharers

    @cached_property
    def game(self) -> Game:
        self.free  # noqa: B018
        self.cluster.configure(self.config)
        return build_game(self.config, self.cluster)

    @cached_property
    def first_fakes(self) -> Tensor:
        """G's images before it learns anything."""
        with torch.no_grad(), untouched(self.game.networks.G), self.cluster.autocast():
            fakes: Tensor = self.game.networks.G(self.batch.latent)
        return fakes.float()
