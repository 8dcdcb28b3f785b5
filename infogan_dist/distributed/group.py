"""The processes of a command as one object: who we are, what all ranks agree on, and how they end together."""

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
from infogan_dist.distributed.agreement import checksums, first_difference, in_words
from infogan_dist.distributed.cores import Cores
from infogan_dist.distributed.launcher import Launch
from infogan_dist.distributed.watchdog import RankLost, Watchdog
from infogan_dist.errors import Diverged, InfoganError, UserError

Result = TypeVar("Result")
Answer = TypeVar("Answer", bound=Hashable)
POLL_EVERY = 10  # steps between asking all ranks something, which costs a reduction and a wait for the device
LAST_WORD = 60  # seconds that the watchdog has before the backend gives up with words of its own


class Group:
    """The processes of one command. Every rank makes one, and calls every method of it in the same order."""

    def __init__(self, launch: Launch, threads: int | str, processes: ProcessesConfig):
        """Joins the process group. A launcher's precision is ignored: the config's counts.

        Raises UserError where two processes would use one GPU, Accelerate refuses the GPUs, or the group is not the one that the
        launcher described; RankLost where another process does not come.
        """
        gpus = torch.cuda.device_count()
        on_cpu = launch.cpu or gpus == 0
        too_few = not on_cpu and gpus < launch.local_processes and not launch.share_gpus
        if too_few and not launch.own_gpus:
            raise UserError(f"{launch.local_processes} processes were started on a host with {gpus} GPUs; start {gpus}")
        keep_freed_memory()
        self._cores = Cores(launch.local_rank, launch.local_processes, bind=on_cpu and processes.pin_cores)
        torch.set_num_threads(self._cores.share if threads == "auto" else int(threads))
        patience = timedelta(seconds=processes.timeout + LAST_WORD)
        self._who = f"rank {launch.rank} of {launch.processes} on {socket.gethostname()}"
        gloo = launch.processes > 1 and (on_cpu or launch.share_gpus)  # not MPI; NCCL refuses two processes on one GPU
        try:
            with launch.in_environment(os.environ):
                self._state = cast(Any, PartialState(cpu=on_cpu, timeout=patience, backend="gloo" if gloo else None))
        except torch.distributed.DistError as error:
            raise RankLost(
                f"{self._who} met no other rank: {_flat(error)}; see what the other processes said"
            ) from error
        except NotImplementedError as error:  # several consumer GPUs whose driver lacks peer-to-peer copies
            raise UserError(_flat(error)) from error
        self.processes: int = self._state.num_processes
        self.rank: int = self._state.process_index
        self.is_main: bool = self._state.is_main_process
        self.device: torch.device = self._state.device
        self._check_joined(launch, compare_gpus=too_few)
        if self.device.type == "cuda" and self.device.index is not None:
            self._state.local_process_index = (
                self.device.index
            )  # Accelerate gives DDP the local rank as the GPU's number
        self._watchdog = Watchdog(self._who, processes.timeout) if self.processes > 1 else None

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
        self.heartbeat("leaving" if error is None else f"leaving after {type(error).__name__}: {_flat(error)}")
        if getattr(error, "concerns_one_rank", not isinstance(error, (InfoganError, NoneType))):
            self._abort()
        self.close()

    def close(self) -> None:
        """Leave the process group, so that a process may make another cluster."""
        try:
            self._state.destroy_process_group()
        finally:
            if self._watchdog is not None:  # only now: NCCL may have waited for the other ranks
                self._watchdog.close()
        self._state._reset_state()
        self._cores.free()

    def _abort(self) -> None:
        """End NCCL's unfinished collectives: other ranks may never join them, and leaving would wait for these ranks."""
        if self.backend == "nccl" and torch.distributed.is_initialized():
            torch.distributed.distributed_c10d._abort_process_group()

    def _check_joined(self, launch: Launch, compare_gpus: bool) -> None:
        """Raises UserError, and leaves the group, unless it has the launcher's size and rank and each process its own GPU."""
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
        """Publish this rank's GPU, and with `compare` name the ranks that see the same one; empty where none do.

        Through the group's store, because NCCL fails where two ranks share a GPU.
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
            f"{in_words(ranks, self.processes)} on {socket.gethostname()} see the same GPU; "
            "give each process its own (srun --gpus-per-task=1) or start fewer"
        )

    def heartbeat(self, phase: str) -> None:
        """What this rank does now, in words for the user should it never come back from it."""
        if self._watchdog is not None:
            self._watchdog.enter(phase)

    def when_lost(self, act: Callable[[str], object]) -> None:
        """Do this with the last message should this rank be ended for standing still."""
        if self._watchdog is not None:
            self._watchdog.last_act = act

    def on_main(self, action: Callable[[], Result]) -> Result:
        """What `action` returns or raises on rank zero, on every rank."""
        self.heartbeat("waiting for what rank zero does alone")
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
        self.heartbeat("waiting for what every rank does")
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
        self.heartbeat("comparing the commands of all ranks")
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
        self.heartbeat("asking all ranks")
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
        self.heartbeat("asking all ranks")
        votes = torch.tensor([float(ours)], device=self.device)
        return bool(reduce(votes, reduction="sum").item() > 0)

    def mean(self, metrics: dict[str, Tensor]) -> dict[str, float]:
        """The metrics' means over all ranks, as numbers: waits for the device."""
        self.heartbeat("averaging the metrics")
        values = torch.stack([value.double() for value in metrics.values()])
        return dict(zip(metrics, reduce(values, reduction="mean").tolist(), strict=True))

    def all_reduce_seconds(self, size: int, repeats: int = 5) -> float:
        """How long an all-reduce of `size` bytes takes here: the median of some, on rank zero's clock. 0 on one process."""
        if self.processes == 1:
            return 0.0
        self.heartbeat(f"timing an all-reduce of {size} bytes")
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
        self.heartbeat("comparing the ranks")
        by_rank = gather(checksums(tensors)[None])
        difference = first_difference(list(tensors), by_rank.cpu())
        if difference is not None:
            raise Diverged(
                f"the ranks no longer train the same networks: {difference}; the checkpoints before are kept"
            )

    def map_batches(self, batches: list[Tensor], draw: Callable[[Tensor], Tensor]) -> Tensor:
        """`draw` of every batch, all of one size, joined in their order: each rank draws a share, every rank gets all."""
        self.heartbeat("drawing a share of the images")
        share = -(-len(batches) // self.processes)
        ours = [batches[(self.rank * share + number) % len(batches)] for number in range(share)]
        drawn: Tensor = gather(torch.cat([draw(batch) for batch in ours]).to(self.device))
        return drawn[: sum(map(len, batches))]

    def map_chunks(self, count: int, compute: Callable[[int], Tensor], doing: str) -> Iterator[Tensor]:
        """`compute` of each number below `count` in order, on the CPU: each rank computes a share, every rank gets all.

        All results have one shape. The ranks meet after each round of one chunk a rank, which is a heartbeat: the watchdog waits
        for one chunk, not for all. Every rank must take every result.
        """
        for first in range(0, count, self.processes):
            self.heartbeat(f"{doing}, {first} of {count} chunks done")
            ours = compute(min(first + self.rank, count - 1))[None]
            everyones: Tensor = gather(ours.to(self.device)).cpu() if self.processes > 1 else ours
            yield from everyones[: count - first]


def _flat(error: BaseException) -> str:
    """An error's message in one line."""
    return " ".join(str(error).split())
