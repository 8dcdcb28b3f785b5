from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from infogan_dist.config.schema import Config
from infogan_dist.data.sources import open_images
from infogan_dist.distributed.cluster import Cluster
from infogan_dist.errors import UserError
from infogan_dist.networks.class_prior import class_priors
from infogan_dist.training.batches import BatchStream
from infogan_dist.training.cuda_graph import WARM_UP, GraphedStep, Recorder
from infogan_dist.training.loop import train
from infogan_dist.training.step import MicroBatch, train_step
from infogan_dist.training.train_state import TrainState, build_train_state
from tests.conftest import ONE_PROCESS, tiny


class Script(Recorder):
    """A recorder for CPUs: a replay runs the step on the tensors that it was recorded with."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def side_stream(self) -> nullcontext[None]:
        return nullcontext()

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            step()

        return replay


def state_after(
    config: Config, take_step: Callable[[TrainState, list[MicroBatch]], dict[str, Tensor]]
) -> dict[str, Tensor]:
    with Cluster(ONE_PROCESS, 1, config.processes) as cluster:
        cluster.configure(config)
        state = build_train_state(config, cluster)
        batches = BatchStream(config, cluster, open_images(config.data), class_priors(state.networks.G))
        for step in range(1, config.train.steps + 1):
            metrics = take_step(state, batches.at(step))
        state = {f"{stem}.{name}": t for stem, tensors in state.state_dict().items() for name, t in tensors.items()}
        return {name: tensor.clone() for name, tensor in (state | metrics).items()}


LEARNED = "latents={noise: [{dim: 3}], categorical: [5], prior: learned, prior_from: 0, prior_half_life_images: 50}"


@pytest.mark.parametrize(
    "overrides",
    [
        ("train.accumulate=1", "objective.r1_gamma=1"),
        ("train.accumulate=2", "objective.r1_gamma=1"),
        ("objective.information_trains=trunk", LEARNED),
    ],
    ids=["one batch", "accumulation", "learned prior"],
)
def test_cuda_graph_run_equals_the_plain_run_bit_for_bit(overrides: tuple[str, ...]) -> None:
    config = tiny("x", *overrides)
    script, graphed = Script(), {}

    def take_step(state: TrainState, batch: list[MicroBatch]) -> dict[str, Tensor]:
        step = graphed.setdefault("step", GraphedStep(state, script))
        return step(batch)

    ours, plain = state_after(config, take_step), state_after(config, train_step)
    assert all(torch.equal(ours[name], tensor) for name, tensor in plain.items())
    assert (script.recorded, script.replayed) == (1, config.train.steps - WARM_UP)


def test_cuda_graph_copies_its_inputs() -> None:
    """A recording has fixed addresses: later batches must be copied to those of the first one."""
    config = tiny("x")
    seen: list[int] = []

    def take_step(state: TrainState, batch: list[MicroBatch]) -> dict[str, Tensor]:
        step = GraphedStep(state, Script())
        for number in range(3):
            before = batch[0].reals.clone()
            step(batch)
            assert torch.equal(batch[0].reals, before)
            seen.append(step._inputs[0].reals.data_ptr())
            assert seen[number] != batch[0].reals.data_ptr()
        return {}

    state_after(config.model_copy(update={"train": config.train.model_copy(update={"steps": 1})}), take_step)
    assert len(set(seen)) == 1


def test_cuda_graph_without_a_gpu_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.cuda_graph = true needs one process on a GPU; here 1 on cpu"):
        train(tiny(tmp_path / "run", "train.cuda_graph=true"), ONE_PROCESS)
    assert not (tmp_path / "run").exists()


def test_recording_lets_other_threads_allocate_pinned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread prefetches images into pinned memory, which torch's default capture mode forbids."""
    modes = []

    @contextmanager
    def graph(recorded: object, capture_error_mode: str = "global") -> Iterator[None]:
        modes.append(capture_error_mode)
        yield

    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=lambda: modes.append("replayed")))
    monkeypatch.setattr(torch.cuda, "graph", graph)
    Recorder().record(lambda: modes.append("recorded"))()
    assert modes == ["thread_local", "recorded", "replayed"]
