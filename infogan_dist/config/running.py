"""How a run goes: steps, processes, what is skipped, warned of, drawn, scored, saved and logged."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from infogan_dist.config.section import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    Precision,
    Probability,
    Section,
)


class TrainConfig(Section):
    global_batch: Annotated[int, Field(ge=1, le=100_000)] = 100
    """Images in one step over all processes."""
    steps: PositiveInt = 2400
    """One step is one D update and one G update."""
    precision: Precision = "auto"
    """`auto`: bf16 where the hardware has it, else fp32; the run's config.yaml records which. fp16 is for GPUs; fp64 proves equality."""
    accumulate: PositiveInt = 1
    """Micro-batches per update."""
    threads: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = "auto"
    """CPU threads of each process; `auto` shares the cores out among the processes of a host."""
    compile: Literal[False, "default"] = False
    """torch.compile's mode for the networks; those under a gradient penalty stay as they are (it has no second derivative). On a
    CPU it is slower than false. The launches of the kernels are what `cuda_graph` saves."""
    cuda_graph: bool = False
    """Record the whole step once as a CUDA graph and replay it: the same numbers without the time of launching its kernels. One
    GPU, any precision but fp16."""
    ema_half_life_images: NonNegativeInt = 10_000
    """Images after which the averaged generator has forgotten half; 0 switches the average off. Ramps up at the start."""


class ProcessesConfig(Section):
    check_every: NonNegativeInt = 500
    """Steps between comparisons of every weight, statistic and optimizer state over the ranks, bit by bit; also before each save."""
    timeout: Annotated[int, Field(ge=1, le=1_000_000)] = 600
    """Seconds without progress after which a rank of several ends its process and names what it was doing."""
    compress_gradients: Literal["none", "bf16"] = "none"
    """`bf16` halves the bytes of the reductions, and rounds the gradients in them."""
    pin_cores: bool = True
    """Pins each process of a CPU host to an equal share of its cores. Set it to false where other work runs on the same cores.
    Has no effect with GPUs, or where the launcher has set an affinity."""


class NonfiniteConfig(Section):
    """Updates whose loss or gradient is not finite. All processes skip them; after too many in a row the run goes back to its newest
    valid checkpoint and continues with the next images."""

    max_in_a_row: PositiveInt = 10
    """Consecutive steps with a skipped update that trigger a rollback."""
    max_rollbacks: NonNegativeInt = 3
    """Rollbacks of one run. The next one ends it with exit code 3 and a post_mortem.json."""
    check_every: Annotated[int, Field(ge=1, le=100_000)] = 50
    """Steps between checks for skipped updates. A check waits for the device."""


class CollapseConfig(Section):
    """Collapse warnings, computed from the newest logged rows. Each names a remedy and is counted in metrics.jsonl."""

    rows: Annotated[int, Field(ge=1, le=100_000)] = 10
    """Consecutive logged rows that must meet a condition."""
    D_accuracy: Probability = 0.99
    """D is saturated where it classifies at least this share of reals and fakes correctly."""
    score_gap: Probability = 0.95
    """D is saturated as well where D(x) - D(G(z, c)) is at least this."""
    information: Probability = 0.05
    """A categorical code is ignored where L_I is below this share of its maximum, ln K for K classes."""
    diversity: NonNegativeFloat = 0.05
    """G has lost variety where the standard deviation of pixels in [-1, 1] within a class is below this. Healthy runs on digits and
    sprites had 0.07 (early, half width) to 0.24; a collapsed run had 0.02."""
    usage: Probability = 0.002
    """A class is unused where Q gives it a smaller mean probability on reals."""
    after_images: NonNegativeInt = 20_000
    """Images seen before the first warning."""
    stop: bool = False
    """Whether a warning ends the run with exit code 3."""


class SampleConfig(Section):
    every: NonNegativeInt = 500
    """Steps between grids of fixed noise; 0 is off. The last step is always drawn."""


class EvaluateConfig(Section):
    every: NonNegativeInt = 0
    """Steps between evaluations of the codes on test images, and one after the last step; 0 is off. It only looks: nothing of the
    training depends on it. `data.held_out` says which images stand for the test images."""


class CheckpointConfig(Section):
    every: NonNegativeInt = 500
    """Steps between checkpoints; 0 is off. The last step is always saved."""
    keep: PositiveInt = 3
    """How many of the newest checkpoints stay."""
    keep_every: NonNegativeInt = 0
    """Checkpoints of every so many steps stay as well; 0 keeps none of them."""
    background: bool = True
    """Write while training goes on, from a copy of the state in memory. The last save, and one that a signal asks for, is waited for."""


class LogConfig(Section):
    every: NonNegativeInt = 50
    """Steps between rows of metrics.jsonl; 0 is off. The last step is always logged."""
    trackers: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Any of Accelerate's trackers by name (tensorboard, wandb, ...), beside metrics.jsonl."""
