"""One and several processes train the same networks. Compared in float64, because in float32 Adam amplifies rounding."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from infogan_dist.checkpoints.store import find
from infogan_dist.config.reading import load_config
from infogan_dist.data.sources import open_images
from infogan_dist.distributed.cluster import Cluster, rank_positions, resolve_precision
from infogan_dist.distributed.trackers import check_trackers
from infogan_dist.errors import UserError
from infogan_dist.training.batches import BatchStream
from infogan_dist.training.step import train_step
from infogan_dist.training.train_state import build_train_state
from tests.conftest import ONE_PROCESS, ROOT, Command, clean_environment, tiny
from tests.distributed.distributed_worker import (
    CHECKPOINTED,
    COMBINATIONS,
    LOSSES,
    MATRIX,
    OPTIONS_OF_D,
    OTHER_FAMILIES,
    PRIORS,
    RECIPES,
)

# Each value of each dimension, the other network families, each loss, a learned class prior, and all of D's options
FAST = [*list(MATRIX)[::5], *OTHER_FAMILIES, *RECIPES, *LOSSES, *PRIORS, next(iter(OPTIONS_OF_D))]
STEPS = {"fast": 10, "matrix": 50}
NAMES = {  # what is trained on how many processes
    "fast": {1: FAST, 2: FAST, 3: [*FAST[2:4], "recipe"]},
    "matrix": {processes: [*COMBINATIONS] for processes in (1, 2, 3, 4)},
}
CASES = [
    pytest.param(kind, processes, name, marks=[pytest.mark.matrix] if kind == "matrix" else [])
    for kind, by_processes in NAMES.items()
    for processes, names in by_processes.items()
    for name in names
    if processes > 1
]
BOUNDS = {  # of the relative error of a network's reduced gradients
    "fp32": 1e-4,
    # 8 bits of mantissa through about 20 layers: measured at most 0.07, except for FE with batch norms of three images, where bf16
    # itself has an error of 0.3 and process counts differ by 0.14
    "bf16": 0.1,
}
BF16_ROUNDING = 2**-9  # largest relative error

ResultFile = Callable[[str, int, int, str, str], Path]


@pytest.fixture(scope="module")
def result_file(tmp_path_factory: pytest.TempPathFactory) -> ResultFile:
    """The file that one rank wrote. Trains all combinations of its kind first, if that has not been done yet."""
    folders: dict[tuple[str, int], Path] = {}

    def trained(kind: str, processes: int) -> Path:
        if (kind, processes) not in folders:
            folder = folders[kind, processes] = tmp_path_factory.mktemp(f"{kind}-{processes}")
            launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
            command = [
                sys.executable,
                *(launcher if processes > 1 else []),
                "-m",
                "tests.distributed.distributed_worker",
            ]
            arguments = [str(folder), str(STEPS[kind]), *NAMES[kind][processes]]
            result = subprocess.run(
                [*command, *arguments], cwd=ROOT, env=clean_environment(), capture_output=True, text=True
            )
            assert result.returncode == 0, result.stderr
        return folders[kind, processes]

    return lambda kind, processes, rank, name, ending: (
        trained(kind, processes) / f"{name.replace(' ', '-')}-rank{rank}{ending}"
    )


@pytest.mark.parametrize(("kind", "processes", "name"), CASES)
def test_several_processes_train_the_same_networks_as_one(
    result_file: ResultFile, kind: str, processes: int, name: str
) -> None:
    one = load_file(result_file(kind, 1, 0, name, ".safetensors"))
    several = load_file(result_file(kind, processes, 0, name, ".safetensors"))
    assert one.keys() == several.keys()
    assert len(one) > 40
    for key in one:
        assert (one[key] - several[key]).abs().max() <= 1e-9, key


@pytest.mark.parametrize(("kind", "processes", "name"), CASES)
def test_all_ranks_are_bit_identical(result_file: ResultFile, kind: str, processes: int, name: str) -> None:
    assert (
        len({result_file(kind, processes, rank, name, ".safetensors").read_bytes() for rank in range(processes)}) == 1
    )


@pytest.mark.parametrize(("kind", "processes", "name"), CASES)
def test_each_update_reduces_once_and_only_owned_parameters(
    result_file: ResultFile, kind: str, processes: int, name: str
) -> None:
    facts = json.loads(result_file(kind, processes, 0, name, ".json").read_text())
    for update, owned in facts["owned"].items():
        assert facts["calls"].pop(update) == STEPS[kind]
        assert facts["elements"].pop(update) == STEPS[kind] * owned
    exchanges = set() if name.startswith("none") else {"batch norm"}
    exchanges |= {"clustering"} if "clustering" in " ".join(COMBINATIONS[name]) else set()
    exchanges |= {"class prior"} if name in PRIORS else set()
    exchanges |= {"adaptive augmentation"} if "adaptive" in name else set()
    exchanges |= {"clustering start"} if "clustering_after" in " ".join(COMBINATIONS[name]) else set()
    assert set(facts["calls"]) == exchanges


@pytest.mark.parametrize(("kind", "processes", "name"), CASES)
def test_resumed_run_has_the_bits_of_an_uninterrupted_one(
    result_file: ResultFile, kind: str, processes: int, name: str
) -> None:
    assert json.loads(result_file(kind, processes, 0, name, ".json").read_text())["resumes bitwise"] is True


@pytest.mark.parametrize("name", CHECKPOINTED)
def test_gradient_checkpointing_on_two_processes_has_the_same_bits(result_file: ResultFile, name: str) -> None:
    assert json.loads(result_file("fast", 2, 0, name, ".json").read_text())["checkpoints bitwise"] is True


@pytest.mark.parametrize("precision", BOUNDS)
@pytest.mark.parametrize(("kind", "processes", "name"), CASES)
def test_first_reduced_gradients_agree_in_lower_precisions(
    result_file: ResultFile, kind: str, processes: int, name: str, precision: str
) -> None:
    one = load_file(result_file(kind, 1, 0, name, f"-{precision}.safetensors"))
    several = load_file(result_file(kind, processes, 0, name, f"-{precision}.safetensors"))
    assert one.keys() == several.keys()
    for network in {key.rpartition("/")[0] for key in one}:
        ours, theirs = (joined(gradients, network) for gradients in (one, several))
        assert ours.norm() > 0
        bound = BOUNDS[precision] * ours.norm()
        if precision == "bf16":  # process counts may differ by half of the error of bf16 on one process
            exact = joined(load_file(result_file(kind, 1, 0, name, "-fp32.safetensors")), network)
            bound = max(bound, 0.5 * (ours - exact).norm())
        assert (ours - theirs).norm() <= bound, network


@pytest.mark.parametrize(("kind", "processes", "name"), CASES)
def test_compressed_gradients_have_the_error_of_their_roundings(
    result_file: ResultFile, kind: str, processes: int, name: str
) -> None:
    """Each rank rounds its gradients, then their quotient by the number of ranks, and each addition rounds. The bound refers to the
    gradients before the reduction, because these may cancel."""
    exact = load_file(result_file(kind, processes, 0, name, "-fp32.safetensors"))
    compressed = load_file(result_file(kind, processes, 0, name, "-compressed.safetensors"))
    ranks = [load_file(result_file(kind, processes, rank, name, "-local.safetensors")) for rank in range(processes)]
    for network in {key.rpartition("/")[0] for key in exact}:
        local = [joined(gradients, network) for gradients in ranks]
        mean = torch.stack(local).mean(0)
        reduced = joined(exact, network)
        assert (mean - reduced).norm() <= BOUNDS["fp32"] * reduced.norm(), network
        bound = (processes + 1) * BF16_ROUNDING * torch.stack([each.norm() for each in local]).mean()
        error = (joined(compressed, network) - reduced).norm()
        assert 0 < error <= bound, network


def joined(gradients: dict[str, Tensor], network: str) -> Tensor:
    return torch.cat([value.flatten() for key, value in gradients.items() if key.startswith(f"{network}/")])


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_disagreement_is_named_on_every_rank(result_file: ResultFile, processes: int) -> None:
    messages = [result_file("fast", processes, rank, "disagreement", "").read_text() for rank in range(processes)]
    expected = f"rank {processes - 1} of {processes} differs from rank 0 in FE/down.weight, the first of 1;"
    assert all(expected in each for each in messages) if processes > 1 else messages == [""]


def test_run_continues_with_more_and_with_fewer_processes(infogan: Command, tmp_path: Path) -> None:
    def train(output: str, steps: int, processes: int) -> dict[str, Tensor]:
        overrides = [f"train={{global_batch: 12, steps: {steps}, precision: fp64, threads: 1}}", "networks.width=4"]
        quiet = ["sample.every=0", "checkpoint.every=0", "log.every=1"]
        result = infogan("train", "debug", f"output={output}", *overrides, *quiet, processes=processes)
        assert result.returncode == 0, result.stderr
        state = find(tmp_path / output).load()
        return {f"{stem}/{name}": tensor for stem, tensors in state.items() for name, tensor in tensors.items()}

    whole = train("whole", 6, 2)
    train("changed", 2, 2)
    train("changed", 4, 4)
    changed = train("changed", 6, 1)
    assert whole.keys() == changed.keys()
    assert all((whole[key] - changed[key]).abs().max() <= 1e-9 for key in whole)
    rows = [
        [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("whole", "changed")
    ]
    for ours, theirs in zip(*rows, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-9)


# fp16's loss scaler: torch has one for CPUs, so everything but half precision itself can be tested here


class Overflow:
    """Gives one optimizer an infinite gradient in its next update."""

    def __init__(self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch):
        self.optimizers: list[object] = []
        real = cluster.unscale

        def unscale(optimizer: torch.optim.Optimizer) -> None:
            if optimizer in self.optimizers:
                optimizer.param_groups[0]["params"][0].grad.view(-1)[0] = float("inf")
            real(optimizer)

        monkeypatch.setattr(cluster, "unscale", unscale)


def scaled_training(scale: float | None, overrides: tuple[str, ...] = ()):  # type: ignore[no-untyped-def]
    """A cluster whose loss scaler starts at this scale and doubles it after three steps, and its train state."""
    config = tiny("x", "train.precision=fp32", *overrides)
    cluster = Cluster(ONE_PROCESS, 1, config.processes)
    cluster.configure(config)
    if scale is not None:
        cluster._accelerate.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=3)
    state = build_train_state(config, cluster)
    return cluster, state, BatchStream(config, cluster, open_images(config.data))


@pytest.mark.parametrize("overrides", [(), ("optimizer={D: {clip_norm: 0.1}, G: {clip_norm: 0.1}}",)])
def test_loss_scaling_does_not_change_training_and_grows_once_per_step(overrides: tuple[str, ...]) -> None:
    final = []
    for scale in (None, 1024.0):
        cluster, state, batches = scaled_training(scale, overrides)
        for step in range(1, 4):
            train_step(state, batches.at(step))
        final.append(state.state_dict())
        assert cluster.scaler_state().get("scale") == (None if scale is None else 2 * scale)
        cluster.close()
    for stem, tensors in final[0].items():
        for name, tensor in tensors.items():
            torch.testing.assert_close(final[1][stem][name], tensor, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("updates", ["D", "G", "DG"])
def test_overflow_halves_the_scale_once_and_skips_only_its_update(
    updates: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, state, batches = scaled_training(1024.0)
    overflow = Overflow(cluster, monkeypatch)
    optimizers = {"D": state.optimizer_D, "G": state.optimizer_G}
    weights = {"D": state.networks.FE.down.weight, "G": state.networks.G.up.weight}
    overflow.optimizers = [optimizers[update] for update in updates]
    before = {update: weight.clone() for update, weight in weights.items()}
    train_step(state, batches.at(1))
    assert cluster.scaler_state()["scale"] == 512
    assert {update for update in weights if torch.equal(weights[update], before[update])} == set(updates)
    overflow.optimizers = []
    train_step(state, batches.at(2))
    assert cluster.scaler_state()["scale"] == 512
    assert not any(torch.equal(weights[update], before[update]) for update in weights)
    cluster.close()


@pytest.mark.parametrize(("processes", "accumulate"), [(1, 1), (2, 1), (3, 2), (4, 3)])
def test_rank_positions_cover_the_batch_once_micro_batch_first(processes: int, accumulate: int) -> None:
    by_rank = [rank_positions(48, 24, accumulate, processes, rank) for rank in range(processes)]
    positions = [torch.cat(micro) for micro in zip(*by_rank, strict=True)]
    assert torch.cat(positions).tolist() == list(range(48, 72))
    assert {len(part) for parts in by_rank for part in parts} == {24 // processes // accumulate}


def test_fp16_on_a_cpu_is_refused() -> None:
    cpu = torch.device("cpu")
    with pytest.raises(UserError, match="fp16 needs a GPU"):
        resolve_precision("fp16", cpu)
    assert resolve_precision("fp64", cpu) == "fp64"


@pytest.mark.parametrize(("amx", "precision"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_bf16_only_on_a_cpu_that_is_faster_in_it(
    monkeypatch: pytest.MonkeyPatch, amx: bool, precision: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert resolve_precision("auto", torch.device("cpu")) == precision


@pytest.fixture
def _tf32_put_back() -> Iterator[None]:
    matrices, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    benchmark = torch.backends.cudnn.benchmark
    yield
    torch.set_float32_matmul_precision(matrices)
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = convolutions, benchmark


@pytest.mark.usefixtures("_tf32_put_back")
def test_tf32_is_off_only_with_a_gradient_penalty() -> None:
    """Setting torch's flags needs no GPU, only a cluster whose device is `cuda`."""
    seen = []
    for penalty in ("r1_gamma: 0", "r1_gamma: 1", "r2_gamma: 1", "r1_gamma: 0"):
        config = tiny("x", f"objective={{{penalty}}}", "train.precision=fp32")
        with Cluster(ONE_PROCESS, 1, config.processes) as cluster:
            cluster.device = torch.device("cuda", 0)
            cluster.configure(config)
            # each of these raises if torch's older and newer settings contradict each other
            matrices = torch.backends.cuda.matmul.allow_tf32, torch.get_float32_matmul_precision()
            seen.append((*matrices, torch.backends.cudnn.allow_tf32))
    assert seen == [(True, "high", True), (False, "highest", False), (False, "highest", False), (True, "high", True)]


def test_unknown_and_missing_trackers_are_refused_by_name() -> None:
    check_trackers(load_config("debug").log.trackers)
    with pytest.raises(UserError, match="there is no tracker tensorbord"):
        check_trackers(("tensorbord",))
