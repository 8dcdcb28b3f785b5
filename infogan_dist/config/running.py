"""Config sections of a run: training, processes, non-finite updates, collapse warnings, sampling, evaluation, checkpoints, logs."""

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
    """Images per step, summed over all processes."""
    steps: PositiveInt = 2400
    """One step is one D update and one G update."""
    precision: Precision = "auto"
    """`auto`: bf16 on GPUs that support it and on CPUs with AMX, else fp32; the run's config.yaml records the choice. fp16 needs a GPU;
    fp64 is for tests of equality between processes."""
    accumulate: PositiveInt = 1
    """Micro-batches per update."""
    gradient_checkpointing: bool = False
    """Compute activations of G and FE again in the backward pass instead of keeping them: the same bits, less memory, more time. FE's
    are kept in a D step with a gradient penalty, whose second derivative needs them."""
    threads: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = "auto"
    """CPU threads per process. `auto` divides the cores of a host among its processes."""
    compile: Literal[False, "default"] = False
    """torch.compile's mode for the networks. Networks with a gradient penalty are not compiled (no second derivative). Slower than
    false on a CPU. To save kernel launches, use `cuda_graph`."""
    cuda_graph: bool = False
    """Record the step once as a CUDA graph and replay it: the same numbers without the cost of kernel launches. One GPU, any
    precision but fp16."""
    ema_half_life_images: NonNegativeInt = 10_000
    """Half-life of the averaged generator, in images; 0 switches the average off. It ramps up at the start."""


class ProcessesConfig(Section):
    check_every: NonNegativeInt = 500
    """Steps between bitwise comparisons of weights, statistics and optimizer state over the ranks; 0 is off. Each save compares them."""
    timeout: Annotated[int, Field(ge=1, le=1_000_000)] = 600
    """Seconds without progress after which a rank ends its process and names what it was doing. Needs several processes."""
    compress_gradients: Literal["none", "bf16"] = "none"
    """`bf16` halves the bytes of the gradient reductions and rounds the gradients to bf16."""
    pin_cores: bool = True
    """Pins each process of a CPU host to an equal share of its cores. Set it to false where other work runs on the same cores.
    Has no effect with GPUs, or where the launcher has set an affinity."""


class NonfiniteConfig(Section):
    """Updates with a non-finite loss or gradient. All processes skip them. After too many in a row the run returns to its newest valid
    checkpoint and continues with the next images."""

    max_in_a_row: PositiveInt = 10
    """Consecutive steps with a skipped update that trigger a rollback."""
    max_rollbacks: NonNegativeInt = 3
    """Largest number of rollbacks of a run. After these it ends with exit code 3 and a post_mortem.json."""
    check_every: Annotated[int, Field(ge=1, le=100_000)] = 50
    """Steps between checks for skipped updates. A check waits for the device."""


class CollapseConfig(Section):
    """Collapse warnings, computed from the newest logged rows. Each names a remedy and is counted in metrics.jsonl."""

    rows: Annotated[int, Field(ge=1, le=100_000)] = 10
    """Consecutive logged rows that must meet a condition."""
    D_accuracy: Probability = 0.99
    """D is saturated if it classifies at least this share of reals and fakes correctly."""
    score_gap: Probability = 0.95
    """D is also saturated if D(x) - D(G(z, c)) is at least this."""
    information: Probability = 0.05
    """G ignores a categorical code if L_I is below this share of its maximum, H(c), which is ln K for K uniform classes."""
    diversity: NonNegativeFloat = 0.05
    """G has lost variety if the standard deviation of pixels in [-1, 1] within a class is below this. Healthy runs on digits and sprites
    had 0.07 (early, half width) to 0.24; a collapsed run had 0.02."""
    usage: Probability = 0.002
    """A class is unused if Q's mean probability of it on reals is below this."""
    rare_class: Probability = 0.5
    """A class of a code of K classes is rare if Q's mean probability of it on the reals of these rows is below this share of 1/K; 0 is
    off, as it is with a learned prior. Two good runs of `quickstart` stayed at 0.68 or above; a run with 16.5 % code error had a class
    with 4 % of the reals, 0.4."""
    after_images: NonNegativeInt = 20_000
    """Images seen before the first warning can appear."""
    stop: bool = False
    """Whether a warning ends the run with exit code 3."""


class SampleConfig(Section):
    every: NonNegativeInt = 500
    """Steps between grids drawn from fixed noise; 0 is off. The last step always draws one."""


class EvaluateConfig(Section):
    every: NonNegativeInt = 0
    """Steps between evaluations of the codes on test images; 0 is off. The last step is evaluated too. Training does not depend on the
    results. With `data.held_out` the held-out train images are used instead of the test images."""


class CheckpointConfig(Section):
    every: NonNegativeInt = 500
    """Steps between checkpoints; 0 is off. The last step is always saved."""
    keep: PositiveInt = 3
    """Number of the newest checkpoints to keep."""
    keep_every: NonNegativeInt = 0
    """Also keep the checkpoint of every step divisible by this; 0 is off."""
    background: bool = True
    """Write checkpoints in a background thread, from a copy of the state in memory. The run waits for the last save and for one that a
    signal causes."""


class LogConfig(Section):
    every: NonNegativeInt = 50
    """Steps between rows of metrics.jsonl; 0 is off. The last step is always logged."""
    trackers: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Names of Accelerate's trackers (tensorboard, wandb, ...) that log in addition to metrics.jsonl."""
