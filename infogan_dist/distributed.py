"""The only room that knows processes: it prepares, reduces, gathers, agrees, and says which part of a batch is ours."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar, cast

import torch
from accelerate import Accelerator, PartialState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list
from torch import Tensor, nn
from torch.optim import Optimizer

from infogan_dist.config import Config, Precision
from infogan_dist.errors import InfoganError, UserError
from infogan_dist.launcher import Launch
from infogan_dist.networks.layers import BatchNorm, untouched
from infogan_dist.steps import clip_gradients

Result = TypeVar("Result")
POLL_EVERY = 10  # steps between asking all ranks something, which costs a reduction and a wait for the device


class Cluster:
    """The processes of this run. Every rank makes one, and calls every method of it in the same order.

    It is also the engine of the steps: DDP, mixed precision and the loss scaler are Accelerate's.
    """

    def __init__(self, launch: Launch, threads: int | str):
        """Joins the process group. A launcher's precision is ignored: the config's counts."""
        cores = len(os.sched_getaffinity(0))
        torch.set_num_threads(max(1, cores // launch.local_processes) if threads == "auto" else int(threads))
        self._state = cast(Any, PartialState(cpu=launch.cpu or not torch.cuda.is_available()))
        self._accelerator: Accelerator | None = None
        self.processes: int = self._state.num_processes
        self.rank: int = self._state.process_index
        self.is_main: bool = self._state.is_main_process
        self.device: torch.device = self._state.device

    def configure(self, config: Config) -> None:
        """Set precision and trackers, which may come from a run's recorded config and so are known later than the group."""
        self._accelerator = Accelerator(
            cpu=self.device.type == "cpu",
            mixed_precision=config.train.precision if config.train.precision in ("bf16", "fp16") else "no",
            dynamo_backend="no",
            log_with=list(config.log.trackers) or None,
            project_dir=config.output,
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True)],
        )
        self.dtype = torch.float64 if config.train.precision == "fp64" else torch.float32

    def prepare(self, side: nn.Module, *frozen: nn.Module) -> nn.Module:
        """A side ready to train: on the device, in the run's precision, its gradients reduced once but for `frozen`'s."""
        for module in side.modules():
            if type(module) is BatchNorm and self.processes > 1:
                module.sum_over_parts = _SumOverProcesses.apply
        with untouched(*frozen), warnings.catch_warnings():  # DDP reduces what can have a gradient when it is built
            warnings.filterwarnings("ignore", ".*broadcast_buffers.*", FutureWarning)  # Accelerate knows no other word
            return cast(nn.Module, self._accelerate.prepare_model(side))

    def prepare_optimizer(self, optimizer: Optimizer) -> Optimizer:
        return cast(Optimizer, self._accelerate.prepare_optimizer(optimizer))

    # The engine of the steps

    def autocast(self) -> AbstractContextManager[None]:
        return self._accelerate.autocast()

    def gradients_of(self, side: nn.Module, last: bool) -> AbstractContextManager[None]:
        return nullcontext() if last else self._accelerate.no_sync(side)

    def backward(self, loss: Tensor) -> None:
        self._accelerate.backward(loss)

    def update(self, optimizer: Optimizer, clip_norm: float) -> None:
        if clip_norm:
            self._accelerate.unscale_gradients(optimizer)
            clip_gradients(optimizer, clip_norm)
        optimizer.step()

    # What is ours

    def micro_batch_positions(self, images_seen: int, global_batch: int, accumulate: int) -> list[Tensor]:
        """This rank's global positions in each micro-batch of the next step, int64 on the CPU: micro-batch first, rank second."""
        return shares(images_seen, global_batch, accumulate, self.processes, self.rank)

    def map_shares(self, count: int, draw: Callable[[Tensor], Tensor]) -> Tensor:
        """`draw` of every index below `count`, [count, ...]: each rank draws an equal share, every rank gets all."""
        share = -(-count // self.processes)
        ours = torch.arange(self.rank * share, (self.rank + 1) * share) % count
        return self._accelerate.gather(draw(ours).contiguous())[:count]  # type: ignore[no-any-return]

    # What all agree on

    def on_main(self, action: Callable[[], Result]) -> Result:
        """What `action` returns or raises on rank zero, on every rank."""
        outcome: list[Any] = [None, None]
        original: Exception | None = None
        if self.is_main:
            try:
                outcome[0] = action()
            except Exception as error:
                original = error
                outcome[1] = error if isinstance(error, InfoganError) else InfoganError(f"rank zero failed: {error!r}")
        if self.processes > 1:
            broadcast_object_list(outcome)
        if original is not None:
            raise original
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]  # type: ignore[no-any-return]

    def announce(self, *lines: str) -> None:
        """Say something to the user, once."""
        if self.is_main:
            for line in lines:
                print(line, flush=True)

    @property
    def poll_every(self) -> int:
        """How often, in steps, `any` is worth its cost."""
        return POLL_EVERY if self.processes > 1 else 1

    def any(self, ours: bool) -> bool:
        """Whether any rank says yes."""
        if self.processes == 1:
            return ours
        votes = torch.tensor([float(ours)], device=self.device)
        return bool(self._accelerate.reduce(votes, reduction="sum").item() > 0)

    def mean(self, metrics: dict[str, Tensor]) -> dict[str, float]:
        """The metrics' means over all ranks, as numbers: waits for the device."""
        values = torch.stack([value.double() for value in metrics.values()])
        return dict(zip(metrics, self._accelerate.reduce(values, reduction="mean").tolist(), strict=True))

    # The rest of Accelerate

    def start_trackers(self, config: dict[str, Any]) -> None:
        self._accelerate.init_trackers("infogan_dist", config)

    def track(self, row: dict[str, float], step: int) -> None:
        self._accelerate.log(row, step=step)

    def scaler_state(self) -> dict[str, float]:
        """fp16's loss scaler; empty in other precisions."""
        scaler = self._accelerate.scaler
        return dict(scaler.state_dict()) if scaler is not None else {}

    def restore_scaler(self, state: dict[str, float]) -> None:
        if self._accelerate.scaler is not None:
            self._accelerate.scaler.load_state_dict(state)

    def close(self) -> None:
        """Leave the process group, so that a process may make another cluster."""
        if self._accelerator is not None:
            for tracker in self._accelerator.trackers:
                tracker.finish()
            self._accelerator.free_memory()
            self._accelerator.state._reset_state(reset_partial_state=False)
        self._state.destroy_process_group()
        self._state._reset_state()

    @property
    def _accelerate(self) -> Accelerator:
        assert self._accelerator is not None, "configure() comes first"
        return self._accelerator


def shares(images_seen: int, global_batch: int, accumulate: int, processes: int, rank: int) -> list[Tensor]:
    """The global positions of one rank in each micro-batch of the step that follows `images_seen` images."""
    positions = torch.arange(images_seen, images_seen + global_batch)
    return [micro.chunk(processes)[rank] for micro in positions.chunk(accumulate)]


def resolve_precision(precision: Precision, device: torch.device) -> Precision:
    """What `auto` means on this machine. Raises UserError for fp16 on a CPU, which would train in fp32 without a word."""
    cpu = device.type == "cpu"
    if precision == "fp16" and cpu:
        raise UserError("train.precision = fp16 needs a GPU; use bf16 or fp32 on a CPU")
    if precision != "auto":
        return precision
    has_bf16 = torch.cpu._is_avx512_bf16_supported() if cpu else torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if has_bf16 else "fp32"


def check_trackers(names: tuple[str, ...]) -> None:
    """Raises UserError for a tracker that Accelerate does not know or whose package is not installed."""
    available = [str(tracker) for tracker in get_available_trackers()]
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            known = ", ".join(sorted(map(str, LOGGER_TYPE_TO_CLASS)))
            raise UserError(f"log.trackers: there is no tracker {name}; Accelerate has {known}")
        if name not in available:
            raise UserError(f"log.trackers: the package of {name} is not installed; pip install {name}")


class _SumOverProcesses(torch.autograd.Function):
    """An all-reduce whose backward is the same all-reduce, and so differentiable any number of times, on any backend."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        total = part.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _SumOverProcesses.apply(gradient)  # type: ignore[no-any-return]
