"""`doctor`: finds problems of a run before training starts. A check is one function in CHECKS.

Every rank runs every check. No file is written.
"""

from __future__ import annotations

import math
import shutil
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from infogan_dist.checkpoints import store as checkpoints
from infogan_dist.checkpoints.resume import Resume, check_writable, who_writes_in
from infogan_dist.config.model import DataConfig
from infogan_dist.config.schema import Config
from infogan_dist.diagnostics.folder_look import FolderLook
from infogan_dist.diagnostics.memory import StateMemory, size_text
from infogan_dist.diagnostics.preflight import NotDownloaded, Preflight
from infogan_dist.distributed.cluster import Cluster
from infogan_dist.distributed.launcher import Launch
from infogan_dist.distributed.trackers import check_start
from infogan_dist.errors import InfoganError, UserError
from infogan_dist.networks.freeze import frozen
from infogan_dist.registry.data_sets import DATA_SETS
from infogan_dist.training.schedule import length_mismatch
from infogan_dist.training.trainer import check_cuda_graph

LATENCY_BYTES = 8  # of an all-reduce that measures latency
REACH = 1.0  # G's tanh reaches from -REACH to REACH
ROUNDING = 1e-6
NARROW = 0.2  # reals with a smaller range were probably not uint8


class Finding(NamedTuple):
    """One line for the user: a fact and, unless it is ok, the remedy."""

    level: Literal["ok", "warning", "problem"]
    text: str


Findings = Iterator[Finding]
ok, warning, problem = partial(Finding, "ok"), partial(Finding, "warning"), partial(Finding, "problem")


def doctor(config: Config, launch: Launch) -> None:
    """Print a line per finding. Every rank calls it. Raises UserError where there is a problem."""
    problems = 0
    with Cluster(launch, config.train.threads, config.processes) as cluster:
        preflight = Preflight(config, launch, cluster)
        for check in CHECKS:
            topic = check.__name__.removeprefix("check_")
            for finding in check(preflight):
                cluster.announce(f"{finding.level:<7} {topic}: {finding.text}")
                problems += finding.level == "problem"
    if problems:
        raise UserError(f"{problems} problem{'s' if problems > 1 else ''} to solve before {config.output} can train")


def check_processes(run: Preflight) -> Findings:
    device, threads = run.cluster.device, torch.get_num_threads()
    cpu = f"cpu, {threads} thread{'s' if threads > 1 else ''}"
    works_on = cpu if device.type == "cpu" else f"{device}, {torch.cuda.get_device_name(device)}"
    for where, who in run.cluster.poll(f"{socket.gethostname()}: {works_on}").items():
        yield ok(f"{who} on {where}, {run.config.train.precision}")
    no_graph = _refusal(lambda: check_cuda_graph(run.requested, run.cluster))
    if no_graph:
        yield problem(no_graph)
    if run.launch.precision not in (None, run.config.train.precision):
        yield warning(
            f"the launcher asks for {run.launch.precision}; train.precision = {run.config.train.precision} is used"
        )


def check_setup(run: Preflight) -> Findings:
    """All processes have the same versions, config and images."""
    versions = {name: version for name, version in checkpoints.versions().items() if name != "python"}
    differ = _refusal(lambda: run.cluster.check_same(versions | run.facts))
    same = "the same config and images" if run.sees_images else "the same config"
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    yield problem(differ) if differ else ok(listed + (f"; {same} on all ranks" if run.cluster.processes > 1 else ""))


def check_output(run: Preflight) -> Findings:
    """Whether `train` would start, resume or refuse in the output folder."""
    output, resume = Path(run.config.output), run.resume
    user = run.cluster.on_main(lambda: who_writes_in(output))
    if isinstance(resume, InfoganError):
        yield problem(str(resume))
    elif user is not None:
        yield problem(f"{output} is in use by {user}; wait for it or choose another output")
    else:
        yield from map(warning, resume.notices)
        yield ok(_intention(resume))
    _of_rank_zero, *others = run.cluster.poll(_refusal(lambda: check_writable(Path(run.requested.output)))).items()
    for reason, who in others:
        if reason is not None:
            yield warning(f"{reason} ({who}, which writes nothing)")


def check_data(run: Preflight) -> Findings:
    refusal = run.refusal
    for (reason, can_download), who in run.cluster.poll(
        (str(refusal or ""), isinstance(refusal, NotDownloaded))
    ).items():
        if reason:
            text = f"{reason} ({who})" if run.cluster.processes > 1 else reason
            yield warning(text) if can_download else problem(text)
    if not run.sees_images:
        return
    train = run.config.train
    epochs = f"{train.steps * train.global_batch / run.images:.3g} epochs in {train.steps} steps"
    yield ok(f"{run.images:,} images of {run.config.data.name}, {epochs}")
    if run.images < train.global_batch:
        yield warning(
            f"{run.images} images are fewer than train.global_batch = {train.global_batch}; images repeat in a batch"
        )
    darkest, brightest = run.first.flatten(1).aminmax(dim=1)
    constant = int((darkest == brightest).sum())
    if constant:
        yield warning(f"{constant} of the first {len(run.first)} images are of one colour; look at the files")


def check_folder(run: Preflight) -> Findings:
    """What the user's own files are. Unless data.skip_broken, broken files are a finding of check_data."""
    data = run.config.data
    if not DATA_SETS[data.name].scan or not run.sees_images:
        return
    yield from run.cluster.on_main(lambda: list(_look(data)))


def check_range(run: Preflight) -> Findings:
    """The reals are in the range of G's images."""
    G = run.state.networks.G
    with torch.no_grad(), frozen(G), run.cluster.autocast():
        low, high = _extremes(run, G(run.batch.latent))
    starts = f"G's first images range from {low:.2f} to {high:.2f}"
    if low < -REACH or high > REACH or low >= 0:
        yield problem(f"{starts}; its last layer must map to -1 to 1: end it with a tanh")
    if not run.sees_images:
        return
    darkest, brightest = _extremes(run, run.batch.reals)
    reals = f"the reals range from {darkest:.2f} to {brightest:.2f}"
    if max(-darkest, brightest) > REACH + ROUNDING:
        yield problem(f"{reals}, outside [-1, 1], the range of G's tanh; the source must return uint8, 0 to 255")
    elif brightest - darkest < NARROW:
        yield warning(f"{reals}, a small part of [-1, 1]; look at the files: a source must return 0 to 255")
    else:
        yield ok(f"{reals}, {starts}")


def check_schedule(run: Preflight) -> Findings:
    mismatch = length_mismatch(run.config)
    if mismatch:
        yield warning(mismatch.removeprefix("warning: "))


def check_networks(run: Preflight) -> Findings:
    named = {name: network for name, network in run.state.networks.named().items() if name != "G_ema"}
    counts = {name: sum(p.numel() for p in network.parameters()) for name, network in named.items()}
    yield ok(f"parameters {', '.join(f'{name} {count:,}' for name, count in counts.items())}")


def check_batch(run: Preflight) -> Findings:
    train, processes = run.config.train, run.cluster.processes
    share = f", {train.global_batch // processes} on each of {processes} processes" if processes > 1 else ""
    micro = f", {train.accumulate} micro-batches of {len(run.batch.reals)} each" if train.accumulate > 1 else ""
    yield ok(f"{train.global_batch} images a step{share}{micro}")


def check_reductions(run: Preflight) -> Findings:
    if run.cluster.processes == 1:
        return
    size = max(_gradient_bytes(run))
    large, small = run.cluster.all_reduce_seconds(size), run.cluster.all_reduce_seconds(LATENCY_BYTES)
    times = f"{size_text(size)}, the larger module's gradients, in {large * 1e3:.3g} ms; {LATENCY_BYTES} bytes in {small * 1e3:.3g} ms"
    yield ok(f"{run.cluster.backend} all-reduces {times}")


def check_step(run: Preflight) -> Findings:
    """One real step has finite metrics, and every parameter gets a gradient."""
    unused = run.unused
    if unused:
        more = f" and {len(unused) - 3} more" if len(unused) > 3 else ""
        yield problem(f"no gradient for {', '.join(unused[:3])}{more}; use it in the loss of its module or remove it")
    if unused or run.too_large:
        return
    metrics = run.step
    wrong = [key for key, value in metrics.items() if not math.isfinite(value)]
    if wrong:
        yield problem(f"{', '.join(wrong)} not finite in the first step; lower the learning rates or the loss weights")
    else:
        losses = ", ".join(f"{key} {value:.3g}" for key, value in metrics.items() if key.startswith("loss/"))
        yield ok(f"every parameter gets a gradient; {losses}{'' if run.sees_images else ', on grey images'}")


def check_duration(run: Preflight) -> Findings:
    """How long training takes, from the time of a step at the end of the run, when every term of the loss is on."""
    if run.unused or run.too_large:
        return
    seconds, steps = run.step_seconds, run.config.train.steps
    yield ok(
        f"about {_duration(seconds * steps)} for {steps:,} steps of {seconds:.2g} s, without pictures and evaluations"
    )


def check_memory(run: Preflight) -> Findings:
    """The expected peak fits in the available memory. No step of the whole batch is run before."""
    if run.unused:
        return
    memory, available = run.memory, run.available
    total = memory.peak.total()
    listed = ", ".join(f"{name} {size_text(size)}" for name, size in memory.peak.parts().items())
    unmeasured = " (not yet measured on a GPU)" if run.cluster.device.type == "cuda" else ""
    text = f"expected peak {size_text(total)} per process{unmeasured}: {listed}; {size_text(available)} available"
    largest, short = memory.largest_batch(), run.cluster.poll(total > available).get(True)
    if not short:
        yield ok(f"{text}; the largest train.global_batch that fits is {largest:,}")
        return
    excess = f"{size_text(total - available)} too much for {short}" if total > available else f"too little for {short}"
    yield problem(f"{text}, {excess}; {'; or '.join(memory.remedies(largest))}")


def check_disk(run: Preflight) -> Findings:
    output, keep = Path(run.config.output), run.config.checkpoint.keep
    size = StateMemory.of(run.state.networks).checkpoint
    exists = next(path for path in (output, *output.absolute().parents) if path.exists())
    saved, free = run.cluster.on_main(
        lambda: (len(checkpoints.folders(output / "checkpoints")), shutil.disk_usage(exists).free)
    )
    to_come = max(1, keep + 1 - saved)  # one is saved before one is removed
    text = f"{to_come} checkpoints of {size_text(size)} to write, {size_text(free)} free"
    enough = to_come * size < free
    yield ok(text) if enough else problem(f"{text}; free some, or lower checkpoint.keep")


def check_trackers(run: Preflight) -> Findings:
    names = run.requested.log.trackers
    refusal = _refusal(lambda: run.cluster.on_main(lambda: check_start(run.requested)))
    if refusal:
        yield problem(refusal)
    elif names:
        yield ok(", ".join(names))


def _look(data: DataConfig) -> Findings:
    look = FolderLook.of(data, show_progress=True)
    yield from map(ok, look.lines())
    yield from map(warning, look.warnings(data.image_size))


def _intention(resume: Resume) -> str:
    """Describes what `train` would do."""
    output, steps = resume.config.output, resume.config.train.steps
    if resume.finished:
        return f"{output} is done; train changes nothing; raise train.steps = {steps} to continue"
    if resume.checkpoint is not None:
        return f"{output} holds a run; train continues after step {resume.checkpoint.step} to {steps}"
    return f"{output} holds no checkpoint; train starts at step 1 of {steps}"


def _refusal(action: Callable[[], object]) -> str | None:
    try:
        action()
    except UserError as error:
        return str(error)
    return None


def _extremes(run: Preflight, images: Tensor) -> tuple[float, float]:
    low, high = images.float().aminmax()
    lows, highs = zip(*run.cluster.poll((low.item(), high.item())), strict=True)
    return min(lows), max(highs)


def _gradient_bytes(run: Preflight) -> list[int]:
    """Bytes of the gradients that each DDP module reduces in a step."""
    halved = run.config.processes.compress_gradients == "bf16"
    modules = run.state.owned_by_D, run.state.owned_by_G
    owned = [[p for network in networks.values() for p in network.parameters()] for networks in modules]
    return [sum(p.numel() * (2 if halved else p.element_size()) for p in parameters) for parameters in owned]


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{math.ceil(seconds)} s"
    return f"{math.ceil(seconds / 60)} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


CHECKS = (
    *(check_processes, check_setup, check_output, check_trackers, check_data, check_folder, check_batch),
    *(check_schedule, check_networks, check_reductions, check_range, check_memory, check_step, check_duration),
    check_disk,
)
