"""What a launcher (torchrun, accelerate launch) says through environment variables, read before torch is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from infogan_dist.errors import UserError

_YES = {"1", "true", "yes"}
_UNSUPPORTED = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}


@dataclass(frozen=True)
class Launch:
    """One process as its launcher started it.

    `cpu` says that the launcher asked to leave GPUs alone; `precision` is what it asked for, None if it did not ask.
    """

    processes: int
    rank: int
    local_rank: int
    local_processes: int
    cpu: bool
    precision: str | None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Launch:
        """Raises UserError for a launcher that starts fewer processes than asked, or asks for an engine we do not use."""
        if "MASTER_PORT" in environment and "WORLD_SIZE" not in environment:
            raise UserError(
                "the launcher was asked for several processes and started one (`accelerate launch --cpu` does this); "
                "on CPUs use `torchrun --nproc-per-node N -m infogan_dist train CONFIG`, or unset MASTER_PORT"
            )
        for variable, name in _UNSUPPORTED.items():
            if environment.get(variable, "false").lower() in _YES:
                raise UserError(f"the launcher asks for {name}; this trainer uses DDP: choose the multi-GPU launcher")
        steps = environment.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
        if steps != "1":
            raise UserError(
                f"the launcher asks for {steps} gradient accumulation steps; set train.accumulate={steps} instead"
            )
        precision = environment.get("ACCELERATE_MIXED_PRECISION", "no")
        return cls(
            processes=_count(environment, "WORLD_SIZE", 1),
            rank=_count(environment, "RANK", 0),
            local_rank=_count(environment, "LOCAL_RANK", 0),
            local_processes=_count(environment, "LOCAL_WORLD_SIZE", 1),
            cpu=environment.get("ACCELERATE_USE_CPU", "false").lower() in _YES,
            precision=None if precision == "no" else precision,
        )

    def check_batch(self, global_batch: int, accumulate: int) -> None:
        """Raises UserError unless every process gets the same number of images in every micro-batch."""
        unit = self.processes * accumulate
        if global_batch % unit:
            below, above = global_batch // unit * unit, -(-global_batch // unit) * unit
            among = f"{self.processes} process{'es' if self.processes > 1 else ''}"
            if accumulate > 1:
                among += f" x {accumulate} micro-batches"
            remedy = f"{below} or {above}" if below else f"{above}"
            raise UserError(f"train.global_batch = {global_batch} is not divisible by {among}; use {remedy}")


def speaks(environment: Mapping[str, str]) -> bool:
    """Whether this process is the one of its host that talks to the user: one line, not one from each."""
    return environment.get("LOCAL_RANK", "0") == "0"


def _count(environment: Mapping[str, str], variable: str, default: int) -> int:
    text = environment.get(variable, str(default))
    if not text.isdigit():
        raise UserError(f"the environment says {variable}={text}, which is not a count; unset it or use a launcher")
    return int(text)
