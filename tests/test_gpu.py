"""Tests that need a CUDA device. They are skipped visibly without one."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from infogan_dist.checkpoints.store import find
from infogan_dist.data import stream
from infogan_dist.data.sources import open_images
from infogan_dist.data.stream import ImageCache
from infogan_dist.diagnostics.debug import debug
from infogan_dist.distributed.cluster import Cluster
from infogan_dist.distributed.launcher import SHARE_GPUS
from infogan_dist.distributed.reductions import exchanges_of
from infogan_dist.training.batches import BatchStream
from infogan_dist.training.ema import update_average
from infogan_dist.training.loop import train
from infogan_dist.training.step import train_step
from infogan_dist.training.train_state import build_train_state
from infogan_dist.training.trainer import update_of
from tests.conftest import ONE_PROCESS, ROOT, clean_environment, tiny
from tests.faults.harness import free_port, of_torchrun
from tests.networks.test_batch_norm_kernels import SHAPES, assert_the_same, by_formula, by_parts, example

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none"),
]
VIEWS = "objective={information_trains: trunk, information_from: augmented}"
ONE_GPU = dataclasses.replace(ONE_PROCESS, cpu=False)


def first_gradients(precision: str, launch=ONE_GPU, *overrides: str) -> dict[str, Tensor]:  # type: ignore[no-untyped-def]
    """D's reduced and unscaled gradients of the first step, in float32 on the CPU."""
    config = tiny("x", f"train.precision={precision}", "optimizer.D.clip_norm=1e9", *overrides)
    with Cluster(launch, 1, config.processes) as cluster:
        cluster.configure(config)
        state, batches = build_train_state(config, cluster), BatchStream(config, cluster, open_images(config.data))
        train_step(state, batches.at(1))
        named = state.networks.FE.named_parameters()
        return {name: parameter.grad.float().cpu() for name, parameter in named if parameter.grad is not None}


@pytest.mark.parametrize(("precision", "bound"), [("fp64", 1e-6), ("fp32", 1e-2), ("bf16", 0.1), ("fp16", 0.03)])
def test_first_gradients_equal_those_of_a_cpu(precision: str, bound: float) -> None:
    """Seed, noise and data are the same on every device; fp32 may use tf32."""
    ours, exact = first_gradients(precision), first_gradients("fp64", ONE_PROCESS)
    assert ours.keys() == exact.keys()
    a, b = (torch.cat([tensor.flatten() for tensor in each.values()]) for each in (ours, exact))
    assert (a - b).norm() <= bound * b.norm()


def test_fp16_grows_its_scale_once_per_step_and_halves_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny("x", "train.precision=fp16")
    with Cluster(ONE_GPU, 1, config.processes) as cluster:
        cluster.configure(config)
        state, batches = build_train_state(config, cluster), BatchStream(config, cluster, open_images(config.data))
        scaler = cluster._accelerate.scaler
        scaler.set_growth_interval(3)
        scaler.load_state_dict(scaler.state_dict() | {"scale": 1024.0})
        for step in (1, 2, 3):
            train_step(state, batches.at(step))
        assert cluster.scaler_state()["scale"] == 2048
        real = cluster.unscale

        def overflow(optimizer: torch.optim.Optimizer) -> None:
            optimizer.param_groups[0]["params"][0].grad.view(-1)[0] = float("inf")
            real(optimizer)

        monkeypatch.setattr(cluster, "unscale", overflow)
        before = {name: t.clone() for name, t in state.state_dict()["G"].items() if not name.endswith(("mean", "var"))}
        train_step(state, batches.at(4))
        assert cluster.scaler_state()["scale"] == 1024
        assert all(torch.equal(state.state_dict()["G"][name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_resumed_run_keeps_loss_scale_and_optimizer_states(tmp_path: Path, precision: str) -> None:
    train(tiny(tmp_path / "run", f"train.precision={precision}", "train.steps=4"), ONE_GPU)
    train(tiny(tmp_path / "run", f"train.precision={precision}"), ONE_GPU)
    saved = find(tmp_path / "run")
    assert saved.step == 6
    assert bool(saved.manifest["scaler"]) is (precision == "fp16")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("compiled", ["false", "default"])
def test_cuda_graph_trains_like_the_plain_step(precision: str, compiled: str) -> None:
    """Ten steps: plain ones, the recording and replays. The kernels are the same, so only the order of sums may differ."""
    states = []
    for graph in ("false", "true"):
        config = tiny("x", f"train.precision={precision}", f"train.cuda_graph={graph}", f"train.compile={compiled}")
        with Cluster(ONE_GPU, 1, config.processes) as cluster:
            cluster.configure(config)
            state, batches = build_train_state(config, cluster), BatchStream(config, cluster, open_images(config.data))
            take_step = update_of(config, cluster, state)
            for step in range(1, 11):
                metrics = take_step(batches.at(step))
            states.append({name: value.clone() for name, value in (state.state_dict()["G"] | metrics).items()})
    for name, plain in states[0].items():
        torch.testing.assert_close(states[1][name], plain, rtol=1e-2, atol=1e-3)


def test_loop_does_not_wait_for_the_gpu() -> None:
    """Between logged steps no operation makes the host wait: torch raises if one does."""
    config = tiny("x", "train.precision=bf16", "train.steps=9")
    with Cluster(ONE_GPU, 1, config.processes) as cluster:
        cluster.configure(config)
        state, batches = build_train_state(config, cluster), BatchStream(config, cluster, open_images(config.data))
        for step in (1, 2, 3):
            train_step(state, batches.at(step))
        torch.cuda.set_sync_debug_mode("error")
        try:
            for step in (4, 5, 6):
                metrics = train_step(state, batches.at(step))
                update_average(state.networks, config.train, step, metrics["gradient/G"])
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("batches", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-9), (torch.float32, 1e-4), (torch.bfloat16, 2**-6), (torch.float16, 2**-9)],
)
def test_global_batch_norm_matches_the_formula(
    dtype: torch.dtype, tolerance: float, channels_last: bool, shape: str, batches: int, parts: int
) -> None:
    """Several processes, simulated one after another on one GPU."""
    x, dy, weight, bias = example(shape, dtype, "cuda")
    if channels_last and x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    assert_the_same(by_parts(x, dy, weight, bias, batches, parts), by_formula(x, dy, weight, bias, batches), tolerance)


def test_debug_run_with_augmentations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    debug(tiny(tmp_path / "run", VIEWS, "train.precision=fp32"), ONE_GPU)
    assert "the first D step computed twice gives the same bits" in capsys.readouterr().out


def test_images_are_prefetched_while_the_step_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its images are pinned by another thread."""
    monkeypatch.setattr(stream, "RESIDENT_SHARE", 0)
    (tmp_path / "images").mkdir()
    for number in range(24):
        Image.new("L", (28, 28), number * 10).save(tmp_path / "images" / f"{number}.png")
    folder = f"data={{name: folder, root: {tmp_path / 'images'}}}"
    config = tiny(tmp_path / "run", folder, "train.precision=fp32", "train.cuda_graph=true", "train.steps=20")
    train(config, ONE_GPU)
    assert find(tmp_path / "run").step == 20


def test_clustering_in_a_compiled_and_recorded_run(tmp_path: Path) -> None:
    """Clustering starts in step 4, which changes shapes and needs a new recording."""
    clustering = "lambda_clustering: 1, clustering_from: 0.24, clustering_in_full: 0.36"
    objective = f"objective={{information_trains: trunk, information_from: augmented, {clustering}}}"
    settings = (
        "train.precision=bf16",
        "train.cuda_graph=true",
        "train.compile=default",
        "train.steps=12",
        "schedule.images=100",
    )
    train(tiny(tmp_path / "run", objective, *settings), ONE_GPU)
    assert find(tmp_path / "run").step == 12


def test_bench_counts_the_traffic_of_batch_norm(tmp_path: Path) -> None:
    config = tiny(tmp_path / "run", "train.precision=bf16")
    with Cluster(ONE_GPU, 1, config.processes) as cluster:
        cluster.configure(config)
        state, batches = build_train_state(config, cluster), BatchStream(config, cluster, open_images(config.data))
        traffic = exchanges_of(state.networks.named().values(), lambda: train_step(state, batches.at(1)))
    assert traffic.calls["batch norm"] > 0
    assert all(parameter.isfinite().all() for parameter in state.networks.FE.parameters())


def test_failing_rank_leaves_nccl_at_once() -> None:
    code = """
import os
from infogan_dist.config.running import ProcessesConfig
from infogan_dist.distributed.group import Group
from infogan_dist.distributed.launcher import Launch
with Group(Launch.from_environment(os.environ), 1, ProcessesConfig()) as group:
    assert group.backend == "nccl"
    group.any(False)
    raise ValueError("alone")
"""
    place = {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    environment = clean_environment(CUDA_VISIBLE_DEVICES=gpu, MASTER_PORT=str(free_port()), **place)
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 1
    assert "ValueError: alone" in result.stderr


SHARED = ["batch heads plain accumulate-1", "batch trunk penalties accumulate-4", "recipe"]


def worker(folder: Path, processes: int) -> None:
    """Train SHARED on the first visible GPU in several processes, each with its own environment as on several hosts."""
    folder.mkdir()
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    place = {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    several = {"WORLD_SIZE": str(processes), SHARE_GPUS: "1", **place} if processes > 1 else {}
    command = [sys.executable, "-m", "tests.distributed.distributed_worker", str(folder), "10", *SHARED]
    ranks = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=clean_environment(
                CUDA_VISIBLE_DEVICES=gpu,
                INFOGAN_DIST_SHARE_GPUS="1",
                **several,
                **({"RANK": str(rank)} if several else {}),
            ),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    try:
        for rank in ranks:
            _, printed = rank.communicate(timeout=600)
            assert rank.returncode == 0, printed
    finally:
        for rank in ranks:
            rank.kill()


def test_two_processes_on_one_gpu_train_the_same_networks_as_one(tmp_path: Path) -> None:
    for processes in (1, 2):
        worker(tmp_path / str(processes), processes)
    for name in SHARED:
        one, first, second = (
            load_file(tmp_path / str(processes) / f"{name.replace(' ', '-')}-rank{rank}.safetensors")
            for processes, rank in ((1, 0), (2, 0), (2, 1))
        )
        for key, tensor in one.items():
            assert torch.equal(first[key], second[key]), (name, key)
            assert (tensor - first[key]).abs().max() <= 1e-9, (name, key)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_penalty_is_computed_in_full_precision(precision: str) -> None:
    """TF32 keeps 10 bits of a factor: the penalty would have an error of about 1e-3."""

    def penalty(launch, precision: str) -> float:  # type: ignore[no-untyped-def]
        config = tiny("x", f"train.precision={precision}", "objective.r1_gamma=1", "networks.width=32")
        with Cluster(launch, 1, config.processes) as cluster:
            cluster.configure(config)
            state, batches = build_train_state(config, cluster), BatchStream(config, cluster, open_images(config.data))
            return train_step(state, batches.at(1))["loss/penalty"].item()

    assert penalty(ONE_GPU, precision) == pytest.approx(penalty(ONE_PROCESS, "fp64"), rel=1e-5)


def test_penalty_gradients_are_computed_in_full_precision() -> None:
    """They come from the second derivative, which is computed in the step's backward."""
    ours, exact = (
        first_gradients(*each, "objective.r1_gamma=100") for each in (("fp32", ONE_GPU), ("fp64", ONE_PROCESS))
    )
    a, b = (torch.cat([tensor.flatten() for tensor in each.values()]) for each in (ours, exact))
    assert (a - b).norm() <= 1e-4 * b.norm()


JOINS = """
import os
import torch
from infogan_dist.config.running import ProcessesConfig
from infogan_dist.distributed.group import Group
from infogan_dist.distributed.launcher import Launch
with Group(Launch.from_environment(os.environ), 1, ProcessesConfig()) as group:
    assert torch.cuda.current_device() == group.device.index == 0
    assert group.any(group.rank == 1)
    print(group.backend, group.mean({"rank": torch.tensor(float(group.rank), device=group.device)}))
"""


def two_that_see_one_gpu_each(gpus: str, **variables: str) -> list[subprocess.CompletedProcess[str]]:
    """Two ranks as `srun --gpus-per-task=1` starts them; `gpus` names the GPU of each."""
    meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "PYTHONPATH": str(ROOT)}
    ranks = []
    for rank, gpu in enumerate(gpus):
        environment = clean_environment(**meet, **of_torchrun(rank, 2), **variables, CUDA_VISIBLE_DEVICES=gpu)
        command, pipe = [sys.executable, "-c", JOINS], subprocess.PIPE
        ranks.append(subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True))
    ended = [(rank, *rank.communicate(timeout=300)) for rank in ranks]
    return [subprocess.CompletedProcess(rank.args, rank.returncode, out, err) for rank, out, err in ended]


def test_two_ranks_with_the_same_gpu_are_refused() -> None:
    for rank in two_that_see_one_gpu_each("00"):
        assert rank.returncode != 0
        assert "see the same GPU; give each process its own" in rank.stderr


def test_two_ranks_may_share_a_gpu_over_gloo_in_tests() -> None:
    for rank in two_that_see_one_gpu_each("00", INFOGAN_DIST_SHARE_GPUS="1"):
        assert rank.returncode == 0, rank.stderr
        assert rank.stdout == "gloo {'rank': 0.5}\n"


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_each_rank_may_see_only_its_own_gpu() -> None:
    for rank in two_that_see_one_gpu_each("01"):
        assert rank.returncode == 0, rank.stderr
        assert rank.stdout == "nccl {'rank': 0.5}\n"


def test_streamed_images_equal_resident_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    source, order = open_images(tiny("x").data), torch.arange(200)
    sets = (order[:100], torch.cat([order[:50], order[150:]]))  # some images are in both
    device = torch.device("cuda", 0)
    resident = ImageCache(source, device, torch.float32).read_together(*sets)
    monkeypatch.setattr(stream, "RESIDENT_SHARE", 0)
    streamed = ImageCache(source, device, torch.float32)
    streamed.prefetch(*sets)
    for ours, theirs in zip(streamed.read_together(*sets), resident, strict=True):
        assert ours.device.type == "cuda"
        assert torch.equal(ours, theirs)
