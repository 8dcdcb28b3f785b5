"""The process group of a command: identity of this rank, collectives, agreement between ranks, and shutdown."""

from __future__ import annotations

import os
import socket
import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from datetime import timedelta
from types import NoneType, TracebackType
from typing import Any, Self, TypeVar, cast

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather, gather_object, reduce
from torch import Tensor

from infogan_dist.config.running import ProcessesConfig
from infogan_dist.data.host_memory import keep_freed_memory
from infogan_dist.distributed.agreement import checksums, first_difference, format_ranks
from infogan_dist.distributed.cores import Cores
from infogan_dist.distributed.group_store import keep_store, next_store
from infogan_dist.distributed.interface import choose_interface
from infogan_dist.distributed.launcher import Launch
from infogan_dist.distributed.watchdog import RankLost, Watchdog
from infogan_dist.errors import Diverged, InfoganError, UserError

Result = TypeVar("Result")
Answer = TypeVar("Answer", bound=Hashable)
POLL_EVERY = 10  # steps between polls of all ranks: a poll costs a reduction and a wait for the device
WATCHDOG_MARGIN = 60  # seconds by which the backend's timeout exceeds the watchdog's, whose message is clearer


class Group:
    """The processes of one command. Every rank makes one and calls its methods in the same order."""

    def __init__(self, launch: Launch, threads: int | str, processes: ProcessesConfig):
        """Join the process group. A launcher's precision is ignored in favour of the config's.

        Raises UserError if two processes would use one GPU, Accelerate refuses the GPUs, or the group is not the one that the
        launcher described. Raises RankLost if another process does not join.
        """
        gpus = torch.cuda.device_count()
        on_cpu = launch.cpu or gpus == 0
        too_few = not on_cpu and gpus < launch.local_processes and not launch.share_gpus
        if too_few and not launch.own_gpus:
            raise UserError(f"{launch.local_processes} processes were started on a host with {gpus} GPUs; start {gpus}")
        keep_freed_memory()
        self._cores = Cores(launch.local_rank, launch.local_processes, bind=on_cpu and processes.pin_cores)
        torch.set_num_threads(self._cores.share if threads == "auto" else int(threads))
        timeout = timedelta(seconds=processes.timeout + WATCHDOG_MARGIN)
        self._who = f"rank {launch.rank} of {launch.processes} on {socket.gethostname()}"
        gloo = launch.processes > 1 and (on_cpu or launch.share_gpus)  # NCCL refuses two processes on one GPU
        if gloo and launch.local_processes < launch.processes:
            choose_interface(os.environ)
        try:
            with launch.in_environment(os.environ):
                options = {"timeout": timeout, "backend": "gloo" if gloo else None, **next_store(launch)}
                self._state = cast(Any, PartialState(cpu=on_cpu, **options))
                keep_store()
        except NotImplementedError as error:  # consumer GPUs whose driver lacks peer-to-peer copies
            raise UserError(_flat(error)) from error
        except RuntimeError as error:
            if not isinstance(error, torch.distributed.DistError) and "gloo" not in str(error).lower():
                raise
            raise RankLost(
                f"{self._who} could not connect to the other ranks: {_flat(error)}; see the output of the other processes, and if "
                "the hosts have several network interfaces, set GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME to the one that they share"
            ) from error
        self.processes: int = self._state.num_processes
        self.rank: int = self._state.process_index
        self.is_main: bool = self._state.is_main_process
        self.device: torch.device = self._state.device
        self._check_joined(launch, compare_gpus=too_few)
        if self.device.type == "cuda" and self.device.index is not None:
            self._state.local_process_index = self.device.index  # Accelerate passes it to DDP as the GPU's index
        self._watchdog = Watchdog(self._who, processes.timeout) if self.processes > 1 else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the process group. A failure of the backend becomes RankLost, which names this rank and its phase."""
        phase = self._watchdog.phase if self._watchdog else ""
        lost = isinstance(error, torch.distributed.DistError) or "gloo" in str(error)
        if self.processes > 1 and isinstance(error, RuntimeError) and lost:
            raise RankLost(f"{self._who} lost another rank in: {phase} ({_flat(error)})") from error
        self.heartbeat("leaving" if error is None else f"leaving after {type(error).__name__}: {_flat(error)}")
        if getattr(error, "concerns_one_rank", not isinstance(error, (InfoganError, NoneType))):
            self._abort()
        self.close()

    def close(self) -> None:
        """Leave the process group. The process may then make another one."""
        try:
            self._state.destroy_process_group()
        finally:
            if self._watchdog is not None:  # not earlier: NCCL may have to wait for the other ranks
                self._watchdog.close()
        self._state._reset_state()
        self._cores.free()

    def _abort(self) -> None:
        """Abort NCCL's unfinished collectives. Otherwise leaving would wait for ranks that may never join them."""
        if self.backend == "nccl" and torch.distributed.is_initialized():
            torch.distributed.distributed_c10d._abort_process_group()

    def _check_joined(self, launch: Launch, compare_gpus: bool) -> None:
        """Leave the group and raise UserError unless it has the launcher's size and rank and each process has its own GPU."""
        refusal = ""
        if (self.processes, self.rank) != (launch.processes, launch.rank):
            refusal = (
                f"the launcher started rank {launch.rank} of {launch.processes}, but this process is rank {self.rank} "
                f"of {self.processes} in its process group; start all processes with one launcher, such as torchrun"
            )
        elif self.processes > 1 and self.device.type == "cuda":
            refusal = self._shared_gpu(compare_gpus)
        if refusal:
            self._state.destroy_process_group()
            self._state._reset_state()
            self._cores.free()
            raise UserError(refusal)

    def _shared_gpu(self, compare: bool) -> str:
        """Publish this rank's GPU. With `compare`, return an error message if other ranks use the same GPU, else "".

        It uses the group's store, because NCCL fails if two ranks share a GPU.
        """
        store = torch.distributed.distributed_c10d._get_default_store()
        store.set(f"infogan_dist/gpu/{self.rank}", str(torch.cuda.get_device_properties(self.device).uuid))
        if not compare:
            return ""
        gpus = [store.get(f"infogan_dist/gpu/{rank}") for rank in range(self.processes)]
        ranks = [rank for rank, gpu in enumerate(gpus) if gpu == gpus[self.rank]]
        if len(ranks) == 1:
            return ""
        return (
            f"{format_ranks(ranks, self.processes)} on {socket.gethostname()} see the same GPU; "
            "give each process its own (srun --gpus-per-task=1) or start fewer"
        )

    def heartbeat(self, phase: str) -> None:
        """Report progress to the watchdog. `phase` is what this rank does now; the watchdog names it on a hang."""
        if self._watchdog is not None:
            self._watchdog.enter(phase)

    def on_hang(self, act: Callable[[str], object]) -> None:
        """Call `act` with the watchdog's message before it ends this process."""
        if self._watchdog is not None:
            self._watchdog.on_hang = act

    def on_main(self, action: Callable[[], Result]) -> Result:
        """Run `action` on rank zero. Every rank returns what it returns, or raises what it raises."""
        self.heartbeat("waiting for rank zero")
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
        """Run `action` on every rank and return this rank's result. If it fails on any rank, every rank raises the first error."""
        self.heartbeat("waiting for all ranks")
        result: Result | None = None
        failure: InfoganError | None = None
        try:
            result = action()
        except InfoganError as error:
            failure = error
        if self.processes > 1:
            for who, first in gather_object([(self._who, failure)]):
                if first is not None:
                    raise type(first)(f"{first} ({who})")
        if failure is not None:
            raise failure
        return cast(Result, result)

    def check_same(self, facts: Mapping[str, object]) -> None:
        """Raises UserError on every rank unless `facts` (value by name) are the same on all ranks."""
        if self.processes == 1:
            return
        self.heartbeat("comparing the commands of all ranks")
        everyones = gather_object([(self._who, dict(facts))])
        (first, expected), *others = everyones
        for who, found in others:
            for name, fact in found.items():
                if fact != expected[name]:
                    raise UserError(
                        f"{name} is {fact} on {who}, but {expected[name]} on {first}; start all processes with the same"
                    )

    def poll(self, answer: Answer) -> dict[Answer, str]:
        """The different answers of all ranks, each with the ranks that gave it (`rank 0`, `ranks 1, 2`). Rank zero's is first."""
        self.heartbeat("asking all ranks")
        answers: list[Answer] = gather_object([answer])
        by_answer = {each: [rank for rank, other in enumerate(answers) if other == each] for each in answers}
        return {each: format_ranks(ranks, self.processes) for each, ranks in by_answer.items()}

    def announce(self, *lines: str) -> None:
        """Print lines on rank zero."""
        if self.is_main:
            for line in lines:
                print(line, flush=True)

    @property
    def backend(self) -> str:
        """The backend of the collectives, gloo or nccl; empty for one process."""
        return self._state.backend or ""

    @property
    def poll_every(self) -> int:
        """Steps between calls of `any`, which costs a reduction on several processes."""
        return POLL_EVERY if self.processes > 1 else 1

    def any(self, ours: bool) -> bool:
        """Whether `ours` is true on any rank."""
        if self.processes == 1:
            return ours
        self.heartbeat("asking all ranks")
        votes = torch.tensor([float(ours)], device=self.device)
        return bool(reduce(votes, reduction="sum").item() > 0)

    def mean(self, metrics: dict[str, Tensor]) -> dict[str, float]:
        """The mean of each metric over all ranks. Waits for the device."""
        self.heartbeat("averaging the metrics")
        values = torch.stack([value.double() for value in metrics.values()])
        return dict(zip(metrics, reduce(values, reduction="mean").tolist(), strict=True))

    def all_reduce_seconds(self, size: int, repeats: int = 5) -> float:
        """Seconds of an all-reduce of `size` bytes: the median of `repeats`, measured on rank zero. 0 for one process."""
        if self.processes == 1:
            return 0.0
        self.heartbeat(f"timing an all-reduce of {size} bytes")
        payload = torch.zeros(max(1, size // 4), device=self.device)
        seconds = []
        for _ in range(repeats + 1):  # the first one opens connections
            self.synchronize()
            start = time.perf_counter()
            torch.distributed.all_reduce(payload)
            self.synchronize()
            seconds.append(time.perf_counter() - start)
        return self.on_main(lambda: statistics.median(seconds[1:]))

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def check_agreement(self, tensors: Mapping[str, Tensor]) -> None:
        """Raises Diverged on every rank unless `tensors` have the same bits on all. Names the first tensor and the ranks that differ."""
        if self.processes == 1:
            return
        self.heartbeat("comparing the ranks")
        by_rank = gather(checksums(tensors)[None])
        difference = first_difference(list(tensors), by_rank.cpu())
        if difference is not None:
            raise Diverged(f"the ranks no longer have the same state: {difference}; earlier checkpoints are kept")

    def map_batches(self, batches: list[Tensor], draw: Callable[[Tensor], Tensor]) -> Tensor:
        """Concatenate `draw` of every batch, in order, on every rank. Each rank draws a share. All batches have one size."""
        self.heartbeat("drawing images")
        share = -(-len(batches) // self.processes)
        ours = [batches[(self.rank * share + number) % len(batches)] for number in range(share)]
        drawn: Tensor = gather(torch.cat([draw(batch) for batch in ours]).to(self.device))
        return drawn[: sum(map(len, batches))]

    def map_chunks(self, count: int, compute: Callable[[int], Tensor], phase: str) -> Iterator[Tensor]:
        """Yield `compute` of each number below `count`, in order, on the CPU of every rank. Each rank computes a share.

        All results have one shape. The ranks exchange results after every chunk, which is a heartbeat: the timeout applies to one
        chunk. Every rank must consume all results.
        """
        for first in range(0, count, self.processes):
            self.heartbeat(f"{phase}, {first} of {count} chunks done")
            ours = compute(min(first + self.rank, count - 1))[None]
            everyones: Tensor = gather(ours.to(self.device)).cpu() if self.processes > 1 else ours
            yield from everyones[: count - first]


def _flat(error: BaseException) -> str:
    """An error's message on one line."""
    return " ".join(str(error).split())
