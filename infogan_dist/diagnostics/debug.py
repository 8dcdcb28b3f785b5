"""`train --debug`: a few checked steps on one process, with anomaly detection and deterministic kernels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from infogan_dist.checkpoints import store as checkpoints
from infogan_dist.checkpoints.resume import Resume, check_writable
from infogan_dist.checkpoints.run_folder import check_debug_folder
from infogan_dist.config.schema import Config
from infogan_dist.data.fingerprint import fingerprint
from infogan_dist.data.sources import ImageSource, open_images
from infogan_dist.distributed.cluster import Cluster, resolve_precision
from infogan_dist.distributed.launcher import Launch
from infogan_dist.errors import Diverged, InfoganError, UserError
from infogan_dist.training.engine import WrappedEngine
from infogan_dist.training.modules import without_gradient
from infogan_dist.training.probe import Probe
from infogan_dist.training.run import Run
from infogan_dist.training.train_state import TrainState
from infogan_dist.training.trainer import Trainer

STEPS = 3
IMAGES = 8  # per step; train.accumulate micro-batches have at least one each


def debug(config: Config, launch: Launch) -> None:
    """Train a few steps into OUTPUT-debug, check each, and print what was checked.

    Raises UserError on several processes, Diverged on a value that is not finite, InfoganError where a check fails.
    """
    if launch.processes > 1:
        raise UserError(
            f"--debug is for one process, not {launch.processes}; run it with plain `python -m infogan_dist`"
        )
    config = debug_config(config)
    source = open_images(config.data)
    check_writable(Path(config.output))
    check_debug_folder(Path(config.output))
    with (
        Cluster(launch, config.train.threads, config.processes) as cluster,
        _watched(strict=has_deterministic_kernels(config, cluster.device)),
    ):
        precision = resolve_precision(config.train.precision, cluster.device)
        config = config.model_copy(update={"train": config.train.model_copy(update={"precision": precision})})
        cluster.configure(config)
        checked = [f"every loss and gradient of {config.train.steps} steps is finite"]
        _check_repeats(config, cluster, source)
        repeats = "the first step" if has_deterministic_kernels(config, cluster.device) else "the first D step"
        checked.append(f"{repeats}, computed twice, gives the same bits")
        trainer = Trainer(config, cluster, source)
        with Run(
            config, cluster, trainer, Resume(config, None, finished=False), fingerprint(source), debug=True
        ) as run:
            for step in run.remaining_steps():
                metrics = trainer.step(step, observe=CheckedEngine)
                run.records.add(step, metrics | Probe(trainer.state, seed=0)(trainer.batch))
            run.pictures.save(config.train.steps)
            run.saving.save(config.train.steps)
            _check_saved(config, trainer.state)
        checked.append(
            "every parameter gets a gradient; the D step does not change G, nor the G step FE and D, by a bit"
        )
        checked.append("the checkpoint verifies and loads with the same bits")
        cluster.announce("checked:", *(f"- {line}" for line in checked))


def debug_config(config: Config) -> Config:
    """The config of a debug run: few small steps, everything logged, into OUTPUT-debug."""
    train = config.train
    batch = min(train.global_batch, train.accumulate * max(1, IMAGES // train.accumulate))
    changes = {
        "output": f"{config.output.rstrip('/')}-debug",
        "train": train.model_copy(update={"steps": min(STEPS, train.steps), "global_batch": batch}),
        "schedule": config.schedule.model_copy(update={"images": config.run_images}),
        "log": config.log.model_copy(update={"trackers": ()}),
    }
    return config.model_copy(update=changes)


def has_deterministic_kernels(config: Config, device: torch.device) -> bool:
    """Whether every operation of a step has a deterministic kernel. On CUDA the derivative of `grid_sample` has none, and the G step
    differentiates augmentations."""
    return device.type != "cuda" or config.objective.information_from != "augmented"


@contextmanager
def _watched(strict: bool) -> Iterator[None]:
    """Use deterministic kernels and anomaly detection, which names the forward call behind a NaN of a backward pass. An operation
    without a deterministic kernel raises where `strict`, else warns."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with a fixed workspace
    torch.use_deterministic_algorithms(True, warn_only=not strict)
    try:
        with torch.autograd.set_detect_anomaly(True):
            yield
    finally:
        torch.use_deterministic_algorithms(False)


class CheckedEngine(WrappedEngine):
    """Runs a step on another engine and checks it.

    Raises InfoganError where an update changes a network that its optimizer does not train or a parameter gets no gradient, Diverged
    where a gradient is not finite.
    """

    def __init__(self, state: TrainState):
        super().__init__(state.engine)
        self._state = state
        self._frozen: dict[str, Tensor] | None = None
        """The tensors that the current update must not change."""

    @contextmanager
    def autocast(self) -> Iterator[None]:
        with super().autocast():
            yield
        if self._frozen is None:  # after G's forward, which updates its running statistics, and before D's update
            self._frozen = _snapshot(self._state.owned_by_G)

    def update(self, optimizer: Optimizer, skip: Tensor) -> None:
        of_D = optimizer is self._state.optimizer_D
        name, trained = ("D", self._state.owned_by_D) if of_D else ("G", self._state.owned_by_G)
        others = self._state.owned_by_G if of_D else self._state.owned_by_D
        for unused in without_gradient(trained):
            raise InfoganError(f"{unused} gets no gradient in the {name} step; the loss does not use it")
        for network, module in trained.items():
            for key, parameter in module.named_parameters():
                if not cast(Tensor, parameter.grad).isfinite().all():
                    raise Diverged(f"the gradient of {network}.{key} in the {name} step is not finite")
        super().update(optimizer, skip)
        assert self._frozen is not None
        for key, tensor in _snapshot(others).items():
            if not torch.equal(tensor, self._frozen[key]):
                raise InfoganError(f"the {name} step changed {key}, which it must not train")
        self._frozen = _snapshot(trained)  # for the G step, which follows and must not change these


def _check_repeats(config: Config, cluster: Cluster, source: ImageSource) -> None:
    states = []
    for _ in range(2):
        trainer = Trainer(config, cluster, source)
        trainer.step(1, observe=CheckedEngine)
        strict = has_deterministic_kernels(config, cluster.device)
        repeated = (
            trainer.state.networks.named()
            if strict
            else {"FE": trainer.state.networks.FE, "D": trainer.state.networks.D}
        )
        states.append(_snapshot(repeated))
    for name, tensor in states[0].items():
        if not torch.equal(tensor, states[1][name]):
            raise InfoganError(f"the first step is not repeatable: {name} differs between two computations")


def _check_saved(config: Config, state: TrainState) -> None:
    saved = checkpoints.find(Path(config.output)).load()
    for stem, tensors in state.state_dict().items():
        for name, tensor in tensors.items():
            if not torch.equal(tensor.cpu(), saved[stem][name]):
                raise InfoganError(f"{stem}.{name} differs between the state and the loaded checkpoint")


def _snapshot(networks: dict[str, nn.Module]) -> dict[str, Tensor]:
    return {f"{name}.{key}": t.clone() for name, network in networks.items() for key, t in network.state_dict().items()}
