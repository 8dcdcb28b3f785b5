"""The processes of a run as one object: the engine of the steps, and everything that ranks do together."""

from __future__ import annotations

import copy
import os
import socket
import statistics
import time
import warnings
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import torch
from accelerate import Accelerator, PartialState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list, gather, gather_object, reduce
from torch import Tensor, nn
from torch.optim import Optimizer

from infogan_dist.config import Config, Precision, ProcessesConfig
from infogan_dist.distributed.agreement import checksums, first_difference, in_words
from infogan_dist.distributed.reductions import Traffic, gather_from, reduce_gradients
from infogan_dist.distributed.watchdog import RankLost, Watchdog
from infogan_dist.errors import Diverged, InfoganError, UserError
from infogan_dist.launcher import Launch
from infogan_dist.networks.layers import BatchNorm, untouched

Result = TypeVar("Result")
Answer = TypeVar("Answer", bound=Hashable)
POLL_EVERY = 10  # steps between asking all ranks something, which costs a reduction and a wait for the device
LAST_WORD = 60  # seconds that the watchdog has before the backend gives up with words of its own


class Cluster:
    """The processes of this run. Every rank makes one, and calls every method of it in the same order.

    It is also the engine of the steps: DDP, mixed precision and the loss scaler are Accelerate's.
    """

    def __init__(self, launch: Launch, threads: int | str, processes: ProcessesConfig):
        """Joins the process group. A launcher's precision is ignored: the config's counts.

        Raises UserError where this host has fewer GPUs than processes, RankLost where another process does not come.
        """
        gpus = torch.cuda.device_count()
        if not launch.cpu and 0 < gpus < launch.local_processes:
            raise UserError(f"{launch.local_processes} processes were started on a host with {gpus} GPUs; start {gpus}")
        cores = len(os.sched_getaffinity(0))
        torch.set_num_threads(max(1, cores // launch.local_processes) if threads == "auto" else int(threads))
        patience = timedelta(seconds=processes.timeout + LAST_WORD)
        self._who = f"rank {launch.rank} of {launch.processes} on {socket.gethostname()}"
        try:
            self._state = cast(Any, PartialState(cpu=launch.cpu or not torch.cuda.is_available(), timeout=patience))
        except torch.distributed.DistError as error:
            raise RankLost(
                f"{self._who} met no other rank: {_flat(error)}; see what the other processes said"
            ) from error
        self._accelerator: Accelerator | None = None
        self.processes: int = self._state.num_processes
        self.rank: int = self._state.process_index
        self.is_main: bool = self._state.is_main_process
        self.device: torch.device = self._state.device
        self.traffic = Traffic()
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
            raise RankLost(f"{self._who} lost another rank in: {doing} ({_flat(error)})") from error
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

    def when_lost(self, act: Callable[[str], object]) -> None:
        """Do this with the last message should this rank be ended for standing still."""
        if self._watchdog is not None:
            self._watchdog.last_act = act

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
        alone = self.processes == 1
        with untouched(*frozen), warnings.catch_warnings():  # DDP reduces what can have a gradient when it is built
            warnings.filterwarnings("ignore", ".*broadcast_buffers.*", FutureWarning)  # Accelerate knows no other word
            prepared = cast(nn.Module, self._accelerate.prepare_model(side, evaluation_mode=alone))
        # a convolution of one channel: the strides it does not use differ, and nothing is slower for it
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides", UserWarning)
        reduce_gradients(prepared, name, self._compression, self.traffic)
        return prepared

    def alone(self) -> Cluster:
        """This rank as if it were the only one: what it prepares reduces nothing. To measure what reductions cost."""
        alone = copy.copy(self)
        alone.processes, alone.rank, alone.is_main = 1, 0, True
        return alone

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

    def map_batches(self, batches: list[Tensor], draw: Callable[[Tensor], Tensor]) -> Tensor:
        """`draw` of every batch, all of one size, joined in their order: each rank draws a share, every rank gets all."""
        self.enters("drawing a share of the images")
        share = -(-len(batches) // self.processes)
        ours = [batches[(self.rank * share + number) % len(batches)] for number in range(share)]
        drawn: Tensor = gather(torch.cat([draw(batch) for batch in ours]).to(self.device))
        return drawn[: sum(map(len, batches))]

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

    def on_all(self, action: Callable[[], Result]) -> Result:
        """What `action` returns on this rank; where it fails on any rank, every rank raises the first one's error."""
        self.enters("waiting for what every rank does")
        result: Result | None = None
        failure: InfoganError | None = None
        try:
            result = action()
        except InfoganError as error:
            failure = error
        if self.processes > 1:
            for who, told in gather_object([(self._who, failure)]):
                if told is not None:
                    raise type(told)(f"{told} ({who})")
        if failure is not None:
            raise failure
        return cast(Result, result)

    def check_same(self, facts: Mapping[str, object]) -> None:
        """Raises UserError on every rank unless all ranks hold these facts alike: they may have been started differently."""
        if self.processes == 1:
            return
        self.enters("comparing the commands of all ranks")
        everyones = gather_object([(self._who, dict(facts))])
        (first, expected), *others = everyones
        for who, found in others:
            for name, fact in found.items():
                if fact != expected[name]:
                    raise UserError(
                        f"{name} is {fact} on {who}, but {expected[name]} on {first}; start all with the same"
                    )

    def poll(self, answer: Answer) -> dict[Answer, str]:
        """Every answer that a rank gives, with words for who gave it (`rank 0`, `ranks 1, 2`, `all 4 ranks`); rank zero's first."""
        self.enters("asking all ranks")
        answers: list[Answer] = gather_object([answer])
        by_answer = {each: [rank for rank, other in enumerate(answers) if other == each] for each in answers}
        return {each: in_words(ranks, self.processes) for each, ranks in by_answer.items()}

    def announce(self, *lines: str) -> None:
        """Say something to the user, once."""
        if self.is_main:
            for line in lines:
                print(line, flush=True)

    @property
    def backend(self) -> str:
        """What carries the collectives: gloo, nccl; empty on one process."""
        return self._state.backend or ""

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
        return bool(reduce(votes, reduction="sum").item() > 0)

    def mean(self, metrics: dict[str, Tensor]) -> dict[str, float]:
        """The metrics' means over all ranks, as numbers: waits for the device."""
        self.enters("averaging the metrics")
        values = torch.stack([value.double() for value in metrics.values()])
        return dict(zip(metrics, reduce(values, reduction="mean").tolist(), strict=True))

    def all_reduce_seconds(self, size: int, repeats: int = 5) -> float:
        """How long an all-reduce of `size` bytes takes here: the median of some, on rank zero's clock. 0 on one process."""
        if self.processes == 1:
            return 0.0
        self.enters(f"timing an all-reduce of {size} bytes")
        payload = torch.zeros(max(1, size // 4), device=self.device)
        seconds = []
        for _ in range(repeats + 1):  # the first one sets connections up
            self.synchronize()
            start = time.perf_counter()
            torch.distributed.all_reduce(payload)
            self.synchronize()
            seconds.append(time.perf_counter() - start)
        return self.on_main(lambda: statistics.median(seconds[1:]))

    def synchronize(self) -> None:
        """Wait for the device to finish what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def check_agreement(self, tensors: Mapping[str, Tensor]) -> None:
        """Raises Diverged on every rank unless `tensors` have the same bits on all; names the first and the ranks that differ."""
        if self.processes == 1:
            return
        self.enters("comparing the ranks")
        by_rank = gather(checksums(tensors)[None])
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


def _flat(error: BaseException) -> str:
    """An error's message in one line."""
    return " ".join(str(error).split())


def _unwrapped(optimizer: Optimizer) -> Optimizer:
    """The optimizer inside Accelerate's."""
    return cast(Optimizer, getattr(optimizer, "optimizer", optimizer))
