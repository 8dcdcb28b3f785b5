"""How a run goes: steps, processes, what is skipped, warned of, drawn, scored, saved and logged."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from infogan_dist.config.section import Count, Every, Images, Precision, Probability, Section, Weight


class TrainConfig(Section):
    global_batch: Annotated[int, Field(ge=1, le=100_000)] = 100
    """Images in one step over all processes."""
    steps: Count = 2400
    """One step is one D update and one G update."""
    precision: Precision = "auto"
    """`auto`: bf16 where the hardware has it, else fp32; the run's config.yaml records which. fp16 is for GPUs; fp64 proves equality."""
    accumulate: Count = 1
    """Micro-batches per update."""
    threads: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = "auto"
    """CPU threads of each process; `auto` shares the cores out among the processes of a host."""
    compile: Literal[False, "default"] = False
    """torch.compile's mode for the networks; those under a gradient penalty stay as they are (it has no second derivative). On a
    CPU it is slower than false. The launches of the kernels are what `cuda_graph` saves."""
    cuda_graph: bool = False
    """Record the whole step once as a CUDA graph and replay it: the same numbers without the time of launching its kernels. One
    GPU, any precision but fp16."""
    ema_half_life_images: Images = 10_000
    """Images after which the averaged generator has forgotten half; 0 switches the average off. Ramps up at the start."""


class ProcessesConfig(Section):
    check_every: Every = 500
    """Steps between comparisons of every weight, statistic and optimizer state over the ranks, bit by bit; also before each save."""
    timeout: Annotated[int, Field(ge=1, le=1_000_000)] = 600
    """Seconds without progress after which a rank of several ends its process and names what it was doing."""
    compress_gradients: Literal["none", "bf16"] = "none"
    """`bf16` halves the bytes of the reductions, and rounds the gradients in them."""
    own_cores: bool = True
    """Whether the processes that share a host's CPU keep to an equal share of its cores each. False where other work needs these
    cores, too: a process may then move away from it. Never where the launcher bound them, nor with GPUs."""


class BadStepsConfig(Section):
    """Updates whose loss or gradient is not finite on any process: all processes skip them, and go back after too many."""

    in_a_row: Count = 10
    """So many steps skipped in a row send the run back to its newest checkpoint that verifies, and on from there with the images that
    come next."""
    rollbacks: Every = 3
    """How often a run may go back; the next time it ends with exit code 3 and a post_mortem.json."""
    look_every: Annotated[int, Field(ge=1, le=100_000)] = 50
    """Steps between looks at which were skipped; a look waits for the device."""


class CollapseConfig(Section):
    """Signs of collapse, looked for in the newest logged rows: each is a warning with its remedy and a count in metrics.jsonl."""

    rows: Annotated[int, Field(ge=1, le=100_000)] = 10
    """Logged rows in a row that must show a sign."""
    D_accuracy: Probability = 0.99
    """D is saturated where it tells so large a share of reals and fakes apart."""
    score_gap: Probability = 0.95
    """The same by D(x) - D(G(z, c))."""
    information: Probability = 0.05
    """A code is ignored where L_I is below this share of the largest that it can reach, ln K for K classes."""
    diversity: Weight = 0.05
    """Each class is drawn in one way where its images vary less, as a standard deviation of pixels in [-1, 1]: runs on digits
    and sprites that varied had 0.07 (early, small) to 0.24, one that did not 0.02."""
    usage: Probability = 0.002
    """A class is never predicted where Q gives it a smaller mean share of the reals."""
    after_images: Images = 20_000
    """Images seen before which nothing is a sign yet."""
    stop: bool = False
    """Whether an alarm ends the run, exit code 3, rather than only warn."""


class SampleConfig(Section):
    every: Every = 500
    """Steps between grids of fixed noise; 0 is off. The last step is always drawn."""


class EvaluateConfig(Section):
    every: Every = 0
    """Steps between evaluations of the codes on test images, and one after the last step; 0 is off. It only looks: nothing of the
    training depends on it. `data.held_out` says which images stand for the test images."""


class CheckpointConfig(Section):
    every: Every = 500
    """Steps between checkpoints; 0 is off. The last step is always saved."""
    keep: Count = 3
    """How many of the newest checkpoints stay."""
    keep_every: Every = 0
    """Checkpoints of every so many steps stay as well; 0 keeps none of them."""
    background: bool = True
    """Write while training goes on, from a copy of the state in memory. The last save, and one that a signal asks for, is waited for."""


class LogConfig(Section):
    every: Every = 50
    """Steps between rows of metrics.jsonl; 0 is off. The last step is always logged."""
    trackers: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Any of Accelerate's trackers by name (tensorboard, wandb, ...), beside metrics.jsonl."""
