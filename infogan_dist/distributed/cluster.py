"""The processes of a run as one object: the engine of the steps, and everything that ranks do together."""

from __future__ import annotations

import copy
import os
import socket
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import torch
from accelerate import Accelerator, PartialState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list
from torch import Tensor, nn
from torch.optim import Optimizer

from infogan_dist.config import Config, Precision, ProcessesConfig
from infogan_dist.distributed.agreement import checksums, first_difference
from infogan_dist.distributed.reductions import Traffic, gather_from, reduce_gradients
from infogan_dist.distributed.watchdog import RankLost, Watchdog
from infogan_dist.errors import Diverged, InfoganError, UserError
from infogan_dist.launcher import Launch
from infogan_dist.networks.layers import BatchNorm, untouched

Result = TypeVar("Result")
POLL_EVERY = 10  # steps between asking all ranks something, which costs a reduction and a wait for the device
DRAWN_AT_ONCE = 50  # images of a picture in one batch: always so many, that ranks draw the same bits as one process
LAST_WORD = 60  # seconds that the watchdog has before the backend gives up with words of its own


class Cluster:
    """The processes of this run. Every rank makes one, and calls every method of it in the same order.

    It is also the engine of the steps: DDP, mixed precision and the loss scaler are Accelerate's.
    """

    def __init__(self, launch: Launch, threads: int | str, processes: ProcessesConfig):
        """Joins the process group. A launcher's precision is ignored: the config's counts."""
        cores = len(os.sched_getaffinity(0))
        torch.set_num_threads(max(1, cores // launch.local_processes) if threads == "auto" else int(threads))
        patience = timedelta(seconds=processes.timeout + LAST_WORD)
        self._state = cast(Any, PartialState(cpu=launch.cpu or not torch.cuda.is_available(), timeout=patience))
        self._accelerator: Accelerator | None = None
        self.processes: int = self._state.num_processes
        self.rank: int = self._state.process_index
        self.is_main: bool = self._state.is_main_process
        self.device: torch.device = self._state.device
        self.traffic = Traffic()
        self._who = f"rank {self.rank} of {self.processes} on {socket.gethostname()}"
        self._watchdog = Watchdog(self._who, processes.timeout) if self.processes > 1 else None
        self._rehearsing = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the process group. A failure of the backend becomes RankLost, with this rank and what it was doing."""
        doing = self._watchdog.phase if self._watchdog else ""
        lost = isinstance(error, torch.distributed.DistError) or "gloo" in str(error)
        if self.processes > 1 and isinstance(error, RuntimeError) and lost:
            reason = " ".join(str(error).split())
            raise RankLost(f"{self._who} lost another rank in: {doing} ({reason})") from error
        self.close()

    def close(self) -> None:
        """Leave the process group, so that a process may make another cluster."""
        if self._watchdog is not None:
            self._watchdog.close()
        self._drop_accelerator()
        self._state.destroy_process_group()
        self._state._reset_state()

    def enters(self, phase: str) -> None:
        """What this rank does now, in words for the user should it never come back from it."""
        if self._watchdog is not None:
            self._watchdog.enter(phase)

    def configure(self, config: Config) -> None:
        """Set precision, compression and trackers, which may come from a run's recorded config and so are known later."""
        self._drop_accelerator()
        self._compression = config.processes.compress_gradients
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
        name = type(side).__name__
        for module in side.modules():
            if type(module) is BatchNorm and self.processes > 1:
                module.parts = self.processes
                module.gather_parts = gather_from(self.processes, self.rank, self.traffic)
        with untouched(*frozen), warnings.catch_warnings():  # DDP reduces what can have a gradient when it is built
            warnings.filterwarnings("ignore", ".*broadcast_buffers.*", FutureWarning)  # Accelerate knows no other word
            prepared = cast(nn.Module, self._accelerate.prepare_model(side))
        reduce_gradients(prepared, name, self._compression, self.traffic)
        return prepared

    def prepare_optimizer(self, optimizer: Optimizer) -> Optimizer:
        return cast(Optimizer, self._accelerate.prepare_optimizer(optimizer))

    def settle(self, networks: Iterable[nn.Module], step: Callable[[], object]) -> None:
        """Run `step` once without its effect on the networks and optimizers, before the first step of this process.

        DDP lays its buckets out anew after their first use, and the order of a sum depends on the layout: settled, a
        resumed run adds in the same order as one that was never interrupted, on any number of ranks.
        """
        if self.processes == 1:
            return
        before = [(network, copy.deepcopy(network.state_dict())) for network in networks]
        self._rehearsing = True
        step()
        self._rehearsing = False
        for network, state in before:
            network.load_state_dict(state)
            network.zero_grad()
        self.traffic.clear()

    # The engine of the steps

    def autocast(self) -> AbstractContextManager[None]:
        return self._accelerate.autocast()

    def gradients_of(self, side: nn.Module, last: bool) -> AbstractContextManager[None]:
        self.enters(f"forward and backward of {type(getattr(side, 'module', side)).__name__}")
        return nullcontext() if last else self._accelerate.no_sync(side)

    def backward(self, loss: Tensor) -> None:
        self._accelerate.backward(loss)

    def unscale(self, optimizer: Optimizer) -> None:
        if self._scaler is not None and not self._rehearsing:
            self._scaler.unscale_(_unwrapped(optimizer))

    def update(self, optimizer: Optimizer) -> None:
        if self._rehearsing:
            return
        if self._scaler is None:
            optimizer.step()
        else:  # Accelerate's optimizer would also update the scale, once for each of the two
            self._scaler.step(_unwrapped(optimizer))

    def end_step(self) -> None:
        if self._scaler is not None and not self._rehearsing:
            self._scaler.update()

    # What is ours

    def micro_batch_positions(self, images_seen: int, global_batch: int, accumulate: int) -> list[Tensor]:
        """This rank's global positions in each micro-batch of the next step, int64 on the CPU: micro-batch first, rank second."""
        return shares(images_seen, global_batch, accumulate, self.processes, self.rank)

    def map_shares(self, count: int, draw: Callable[[Tensor], Tensor]) -> Tensor:
        """`draw` of every index below `count`, [count, ...]: each rank draws a share, every rank gets all.

        `draw` always gets a batch of the same size, the last one filled up from the first indexes, so that its results have
        the same bits on any number of ranks.
        """
        self.enters("drawing a share of the images")
        batches = -(-count // DRAWN_AT_ONCE)
        share = -(-batches // self.processes)
        ours = [(self.rank * share + number) % batches for number in range(share)]
        drawn = [draw(torch.arange(n * DRAWN_AT_ONCE, (n + 1) * DRAWN_AT_ONCE) % count) for n in ours]
        return self._accelerate.gather(torch.cat(drawn).contiguous())[:count]  # type: ignore[no-any-return]

    # What all agree on

    def on_main(self, action: Callable[[], Result]) -> Result:
        """What `action` returns or raises on rank zero, on every rank."""
        self.enters("waiting for what rank zero does alone")
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
        self.enters("asking all ranks")
        votes = torch.tensor([float(ours)], device=self.device)
        return bool(self._accelerate.reduce(votes, reduction="sum").item() > 0)

    def mean(self, metrics: dict[str, Tensor]) -> dict[str, float]:
        """The metrics' means over all ranks, as numbers: waits for the device."""
        self.enters("averaging the metrics")
        values = torch.stack([value.double() for value in metrics.values()])
        return dict(zip(metrics, self._accelerate.reduce(values, reduction="mean").tolist(), strict=True))

    def check_agreement(self, tensors: Mapping[str, Tensor]) -> None:
        """Raises Diverged on every rank unless `tensors` have the same bits on all; names the first and the ranks that differ."""
        if self.processes == 1:
            return
        self.enters("comparing the ranks")
        by_rank = self._accelerate.gather(checksums(tensors)[None])
        difference = first_difference(list(tensors), by_rank.cpu())
        if difference is not None:
            raise Diverged(
                f"the ranks no longer train the same networks: {difference}; the checkpoints before are kept"
            )

    # The rest of Accelerate

    def start_trackers(self, config: dict[str, Any]) -> None:
        self._accelerate.init_trackers("infogan_dist", config)

    def track(self, row: dict[str, float], step: int) -> None:
        self._accelerate.log(row, step=step)

    def scaler_state(self) -> dict[str, float]:
        """fp16's loss scaler; empty in other precisions."""
        return dict(self._scaler.state_dict()) if self._scaler is not None else {}

    def restore_scaler(self, state: dict[str, float]) -> None:
        if self._scaler is not None:
            self._scaler.load_state_dict(state)

    def _drop_accelerator(self) -> None:
        if self._accelerator is not None:
            for tracker in self._accelerator.trackers:
                tracker.finish()
            self._accelerator.state._reset_state(reset_partial_state=False)

    @property
    def _accelerate(self) -> Accelerator:
        assert self._accelerator is not None, "configure() comes first"
        return self._accelerator

    @property
    def _scaler(self) -> torch.amp.GradScaler | None:
        return cast("torch.amp.GradScaler | None", self._accelerate.scaler)


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


def _unwrapped(optimizer: Optimizer) -> Optimizer:
    """The optimizer inside Accelerate's."""
    return cast(Optimizer, getattr(optimizer, "optimizer", optimizer))
