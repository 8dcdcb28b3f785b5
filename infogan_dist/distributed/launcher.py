"""Reads the environment variables of a launcher (torchrun, accelerate launch, MPI, srun), before torch is imported."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass

from infogan_dist.errors import UserError

SHARE_GPUS = "INFOGAN_DIST_SHARE_GPUS"  # for tests of several processes on one GPU, which communicate over gloo
_YES = {"1", "true", "yes"}
_UNSUPPORTED = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}
_VISIBLE_GPUS = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
_TORCHRUN = "TORCHELASTIC_RUN_ID"
_ACCELERATE = ("ACCELERATE_MIXED_PRECISION", "ACCELERATE_DYNAMO_BACKEND")  # accelerate launch always sets both


@dataclass(frozen=True)
class Variables:
    """The names of a launcher's variables for the number of processes and the rank, on all hosts and on this host."""

    processes: str
    rank: str
    local_rank: str
    local_processes: str

    def __iter__(self) -> Iterator[str]:
        return iter((self.processes, self.rank, self.local_rank, self.local_processes))

    def are_in(self, environment: Mapping[str, str]) -> bool:
        return all(name in environment for name in self)


TORCH = Variables("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
"""Set by torchrun, read by torch.distributed and Accelerate."""
SLURM = Variables("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE")
"""Set for a job step. SLURM_NTASKS and SLURM_PROCID are also set in a batch script and in salloc, which are one process."""
OTHERS = (
    Variables(*(f"OMPI_COMM_WORLD_{each}" for each in ("SIZE", "RANK", "LOCAL_RANK", "LOCAL_SIZE"))),  # Open MPI
    Variables(*(f"MV2_COMM_WORLD_{each}" for each in ("SIZE", "RANK", "LOCAL_RANK", "LOCAL_SIZE"))),  # MVAPICH
    Variables("PMI_SIZE", "PMI_RANK", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),  # MPICH, Intel MPI
    Variables("PMI_SIZE", "PMI_RANK", "PMI_LOCAL_RANK", "PMI_LOCAL_SIZE"),  # PALS
    SLURM,  # last, because an mpirun in a SLURM job starts its daemons with srun
)
RANK_PREFIXES = (
    *("MASTER_", "WORLD_SIZE", "RANK", "LOCAL_", "GROUP_", "ROLE_", "TORCHELASTIC_"),
    *("OMPI_", "MV2_COMM_", "PMI", "MPI_LOCAL", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP"),
)
"""Prefixes of the variables that make a process a rank. A command that is not a rank must not inherit them."""


@dataclass(frozen=True)
class Launch:
    """How a launcher started this process.

    `cpu`: whether the launcher asked not to use GPUs. `precision`: the precision that it asked for, or None.
    """

    processes: int
    rank: int
    local_rank: int
    local_processes: int
    cpu: bool
    precision: str | None
    own_gpus: bool = False
    """Whether only some of the host's GPUs are visible to this process, as under `srun --gpus-per-task=1`."""
    share_gpus: bool = False
    """Whether several processes may use one GPU, over gloo. For tests."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Launch:
        """Raises UserError if the variables are incomplete, contradict each other, or ask for an unsupported feature."""
        for variable, name in _UNSUPPORTED.items():
            if environment.get(variable, "false").lower() in _YES:
                raise UserError(f"the launcher asks for {name}; this trainer uses DDP: use the multi-GPU launcher")
        steps = environment.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
        if steps != "1":
            raise UserError(
                f"the launcher asks for {steps} gradient accumulation steps; set train.accumulate={steps} instead"
            )
        precision = environment.get("ACCELERATE_MIXED_PRECISION", "no")
        names = _launcher_variables(environment)
        processes, rank, local_rank, local_processes = _placement(environment, names) if names else (1, 0, 0, 1)
        if "MASTER_PORT" in environment and processes == 1 and (names is None or _by_accelerate(environment, names)):
            raise UserError(
                "the launcher was asked for several processes but started one (`accelerate launch --cpu` does this); "
                "on CPUs use `torchrun --nproc-per-node N -m infogan_dist train CONFIG`, or unset MASTER_PORT"
            )
        return cls(
            processes=processes,
            rank=rank,
            local_rank=local_rank,
            local_processes=local_processes,
            cpu=environment.get("ACCELERATE_USE_CPU", "false").lower() in _YES,
            precision=None if precision == "no" else precision,
            own_gpus=any(environment.get(name) for name in _VISIBLE_GPUS),
            share_gpus=environment.get(SHARE_GPUS, "false").lower() in _YES,
        )

    def check_batch(self, global_batch: int, accumulate: int) -> None:
        """Raises UserError unless every process gets the same number of images in every micro-batch."""
        divisor = self.processes * accumulate
        if global_batch % divisor:
            below, above = global_batch // divisor * divisor, -(-global_batch // divisor) * divisor
            factors = f"{self.processes} process{'es' if self.processes > 1 else ''}"
            if accumulate > 1:
                factors += f" x {accumulate} micro-batches"
            remedy = f"{below} or {above}" if below else f"{above}"
            raise UserError(f"train.global_batch = {global_batch} is not divisible by {factors}; use {remedy}")

    @contextmanager
    def in_environment(self, environment: MutableMapping[str, str]) -> Iterator[None]:
        """Make torch and Accelerate see this launch. For several processes, set torchrun's variables permanently.

        For one process, hide all variables inside the context: Accelerate would wait for other processes to join.
        """
        if self.processes > 1:
            values = (self.processes, self.rank, self.local_rank, self.local_processes)
            environment.update(zip(TORCH, map(str, values), strict=True))
            yield
            return
        hidden = {name: environment.pop(name) for names in (TORCH, *OTHERS) for name in names if name in environment}
        try:
            yield
        finally:
            environment.update(hidden)


def prints_messages(environment: Mapping[str, str]) -> bool:
    """Whether this process prints messages. One process per host does."""
    names = _launcher_variables(environment) or TORCH
    return environment.get(names.local_rank, "0") == "0"


def has_parent_launcher(environment: Mapping[str, str]) -> bool:
    """Whether torchrun or accelerate launch started this process and waits for it."""
    return _TORCHRUN in environment or all(name in environment for name in _ACCELERATE)


def forwards_signals(environment: Mapping[str, str]) -> bool:
    """Whether the launcher forwards signals to its processes. torchrun does, accelerate launch does not."""
    return _TORCHRUN in environment


def _launcher_variables(environment: Mapping[str, str]) -> Variables | None:
    """The variables to use: torch's if they are set, else the first complete set; None without a launcher."""
    if TORCH.processes in environment or TORCH.rank in environment:
        return TORCH
    present = [names for names in OTHERS if names.processes in environment]
    return next((names for names in present if names.are_in(environment)), present[0] if present else None)


def _placement(environment: Mapping[str, str], names: Variables) -> tuple[int, int, int, int]:
    """Processes, rank, local rank and local processes. Raises UserError if one is missing or impossible."""
    if names.processes not in environment:
        raise UserError(f"{names.rank} is set without {names.processes}; set both or use a launcher such as torchrun")
    processes = _count(environment, names.processes)
    if processes == 0:
        raise UserError(f"the environment sets {names.processes}=0; unset it or use a launcher")
    if processes == 1:
        return 1, 0, 0, 1  # other variables do not matter: WORLD_SIZE=1 makes any process train alone
    missing = [name for name in (*names, "MASTER_ADDR", "MASTER_PORT") if not environment.get(name)]
    if missing:
        hint = "; WORLD_SIZE=1 makes each process train alone" if names is not TORCH else ""
        raise UserError(
            f"{names.processes} = {environment[names.processes]} is set without {', '.join(missing)}; "
            f"{_remedy(names, missing[0])}{hint}"
        )
    rank, local_rank = _count(environment, names.rank), _count(environment, names.local_rank)
    local_processes = _tasks_of_node(environment) if names is SLURM else _count(environment, names.local_processes)
    if not rank < processes or not local_rank < local_processes <= processes:
        values = ", ".join(f"{name} = {environment[name]}" for name in names)
        raise UserError(f"the environment contradicts itself: {values}; unset these variables or use a launcher")
    if not 0 < _count(environment, "MASTER_PORT") < 2**16:
        raise UserError(f"MASTER_PORT = {environment['MASTER_PORT']} is not a port")
    if names is TORCH and _TORCHRUN not in environment:
        _check_consistent(environment, processes, rank)
    return processes, rank, local_rank, local_processes


def _check_consistent(environment: Mapping[str, str], processes: int, rank: int) -> None:
    """Raises UserError if torch's variables, set by hand, contradict those of MPI or SLURM.

    MPI or SLURM may start fewer processes: one launcher per host that starts several.
    """
    for names in OTHERS:
        if processes == 1 or not names.are_in(environment):
            continue
        other, other_rank = _count(environment, names.processes), _count(environment, names.rank)
        if other > processes or (other == processes and other_rank != rank):
            raise UserError(
                f"{TORCH.processes} = {processes} and {TORCH.rank} = {rank} contradict "
                f"{names.processes} = {other} and {names.rank} = {other_rank}; unset {TORCH.processes} and {TORCH.rank}"
            )


def _remedy(names: Variables, missing: str) -> str:
    if missing == "MASTER_ADDR":
        return "set MASTER_ADDR (the host of rank 0) and MASTER_PORT (a free port there) for every process"
    if missing == "MASTER_PORT":
        return "set MASTER_PORT, a free port on the host of rank 0, for every process"
    return f"set {missing if names is TORCH else ', '.join(TORCH)} too, or start the processes with torchrun"


def _tasks_of_node(environment: Mapping[str, str]) -> int:
    """The number of tasks on this node, from SLURM's format `2(x3),1`: two on each of three nodes, one on the fourth."""
    text, node = environment[SLURM.local_processes], _count(environment, "SLURM_NODEID", "0")
    for part in text.split(","):
        found = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if found is None:
            raise UserError(f"the environment sets {SLURM.local_processes}={text}, which is not of the form 2(x3),1")
        nodes = int(found[2] or 1)
        if node < nodes:
            return int(found[1])
        node -= nodes
    raise UserError(f"{SLURM.local_processes} = {text} does not include node {environment['SLURM_NODEID']}")


def _by_accelerate(environment: Mapping[str, str], names: Variables) -> bool:
    return names is not TORCH and all(name in environment for name in _ACCELERATE)


def _count(environment: Mapping[str, str], variable: str, default: str = "") -> int:
    text = environment.get(variable, default)
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise UserError(f"the environment sets {variable}={text}, which is not a number; unset it or use a launcher")
    return int(text)
