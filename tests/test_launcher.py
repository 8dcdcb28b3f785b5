from __future__ import annotations

import pytest

from infogan_dist.distributed.launcher import Launch
from infogan_dist.errors import UserError


def test_no_launcher_is_one_process() -> None:
    launch = Launch.from_environment({})
    assert (launch.processes, launch.rank, launch.local_processes, launch.precision) == (1, 0, 1, None)


def test_plain_accelerate_launch_asks_for_no_precision() -> None:
    assert Launch.from_environment({"ACCELERATE_MIXED_PRECISION": "no"}).precision is None
    assert Launch.from_environment({"ACCELERATE_MIXED_PRECISION": "bf16"}).precision == "bf16"


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"MASTER_PORT": "29500"}, ["started one", "torchrun"]),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, ["DeepSpeed", "DDP"]),
        ({"ACCELERATE_USE_FSDP": "true"}, ["FSDP"]),
        ({"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"}, ["train.accumulate=4"]),
        ({"WORLD_SIZE": "two"}, ["WORLD_SIZE=two"]),
    ],
)
def test_what_cannot_be_served_is_refused(environment: dict[str, str], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        Launch.from_environment(environment)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("processes", "batch", "accumulate", "remedy"),
    [(8, 100, 1, "use 96 or 104"), (3, 2, 1, "use 3"), (2, 6, 2, "2 processes x 2 micro-batches; use 4 or 8")],
)
def test_an_indivisible_batch_names_the_nearest(processes: int, batch: int, accumulate: int, remedy: str) -> None:
    launch = Launch.from_environment({"WORLD_SIZE": str(processes), "MASTER_PORT": "1"})
    with pytest.raises(UserError, match=remedy):
        launch.check_batch(batch, accumulate)
    launch.check_batch(processes * accumulate, accumulate)
