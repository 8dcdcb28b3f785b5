from __future__ import annotations

import os
import socket
from types import SimpleNamespace

import pytest
import torch
from accelerate import PartialState

from infogan_dist.config.running import ProcessesConfig
from infogan_dist.distributed import group
from infogan_dist.distributed.group import Group
from infogan_dist.distributed.launcher import (
    OTHERS,
    SHARE_GPUS,
    TORCH,
    Launch,
    Variables,
    has_parent_launcher,
    prints_messages,
)
from infogan_dist.errors import UserError
from tests.conftest import ONE_PROCESS

ACCELERATE = {"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_DYNAMO_BACKEND": "no"}
MEET = {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}
SLURM_JOB = {  # in a batch script with --nodes=2 --ntasks=4, which is one process
    "SLURM_JOB_ID": "7",
    "SLURM_NTASKS": "4",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_TASKS_PER_NODE": "2(x2)",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
}
SLURM_STEP = SLURM_JOB | {  # in the last task that srun starts there
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
}


def torch_variables(processes: int, rank: int) -> dict[str, str]:
    return variables(TORCH, processes, rank, rank % 2, min(2, processes))


def variables(names: Variables, *values: int) -> dict[str, str]:
    """A launcher's four variables, MASTER_ADDR and MASTER_PORT."""
    return dict(zip(names, map(str, values), strict=True)) | MEET


def test_without_a_launcher_there_is_one_process() -> None:
    launch = Launch.from_environment({})
    assert (launch.processes, launch.rank, launch.local_processes, launch.precision) == (1, 0, 1, None)


def test_accelerate_launch_without_options_asks_for_no_precision() -> None:
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
        ({"WORLD_SIZE": "0"}, ["WORLD_SIZE=0"]),
        ({"OMPI_COMM_WORLD_SIZE": "1", "MASTER_PORT": "1", **ACCELERATE}, ["started one"]),
    ],
)
def test_unsupported_launcher_requests_are_refused(environment: dict[str, str], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        Launch.from_environment(environment)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("processes", "batch", "accumulate", "remedy"),
    [(8, 100, 1, "use 96 or 104"), (3, 2, 1, "use 3"), (2, 6, 2, "2 processes x 2 micro-batches; use 4 or 8")],
)
def test_indivisible_batch_names_the_nearest_ones(processes: int, batch: int, accumulate: int, remedy: str) -> None:
    launch = Launch.from_environment(torch_variables(processes, 0))
    with pytest.raises(UserError, match=remedy):
        launch.check_batch(batch, accumulate)
    launch.check_batch(processes * accumulate, accumulate)


@pytest.mark.parametrize("names", [TORCH, *OTHERS[:-1]], ids=lambda names: names.local_rank)
def test_variables_of_every_launcher_are_read(names: Variables) -> None:
    launch = Launch.from_environment(variables(names, 4, 3, 1, 2))
    assert (launch.processes, launch.rank, launch.local_rank, launch.local_processes) == (4, 3, 1, 2)
    assert not prints_messages(variables(names, 4, 3, 1, 2))
    assert prints_messages(variables(names, 4, 2, 0, 2))


@pytest.mark.parametrize(
    ("by_node", "node", "local"), [("2(x2)", "1", 2), ("3,1", "0", 3), ("2(x3),4(x2),1", "4", 4), ("2(x3),1", "3", 1)]
)
def test_variables_of_a_slurm_step_are_read(by_node: str, node: str, local: int) -> None:
    step = SLURM_STEP | MEET | {"SLURM_STEP_TASKS_PER_NODE": by_node, "SLURM_NODEID": node, "SLURM_LOCALID": "0"}
    launch = Launch.from_environment(step)
    assert (launch.processes, launch.rank, launch.local_rank, launch.local_processes) == (4, 3, 0, local)
    assert not prints_messages(SLURM_STEP)


@pytest.mark.parametrize("by_node", ["2(x1)", "two", "2(x2", "²"])
def test_invalid_slurm_step_is_refused(by_node: str) -> None:
    with pytest.raises(UserError, match="SLURM_STEP_TASKS_PER_NODE"):
        Launch.from_environment(SLURM_STEP | MEET | {"SLURM_STEP_TASKS_PER_NODE": by_node})


def test_slurm_batch_script_and_salloc_are_one_process() -> None:
    assert Launch.from_environment(SLURM_JOB).processes == 1
    interactive = {"SLURM_STEP_ID": "4294967290", "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_TASKS_PER_NODE": "1"}
    assert Launch.from_environment(SLURM_JOB | interactive).processes == 1


def test_torchrun_overrides_srun_and_mpirun() -> None:
    ours = torch_variables(8, 5) | {"TORCHELASTIC_RUN_ID": "none"}
    for outer in (SLURM_STEP, variables(OTHERS[0], 2, 1, 0, 1), variables(OTHERS[0], 8, 7, 1, 2)):
        launch = Launch.from_environment(outer | ours)
        assert (launch.processes, launch.rank) == (8, 5)


def test_mpirun_overrides_slurm() -> None:
    daemons = SLURM_STEP | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "1(x2)", "SLURM_LOCALID": "0"}
    assert Launch.from_environment(daemons | variables(OTHERS[0], 4, 2, 0, 2)).processes == 4
    pmi2 = {"PMI_SIZE": "4", "PMI_RANK": "3"}  # srun --mpi=pmi2, which sets no variables for the node
    assert Launch.from_environment(SLURM_STEP | MEET | pmi2).local_rank == 1


@pytest.mark.parametrize("names", [TORCH, *OTHERS[:3], OTHERS[-1]], ids=lambda names: names.local_rank)
def test_every_missing_launcher_variable_is_named(names: Variables) -> None:
    whole = variables(names, 2, 1, 1, 2) | {"SLURM_NODEID": "0"}
    assert Launch.from_environment(whole).processes == 2
    for missing in [*list(names)[1:], *MEET]:
        with pytest.raises(UserError, match=f"{names.processes} = 2 is set without .*{missing}") as caught:
            Launch.from_environment({name: value for name, value in whole.items() if name != missing})
        assert len(str(caught.value).splitlines()) == 1


def test_rank_without_world_size_is_refused() -> None:
    with pytest.raises(UserError, match="RANK is set without WORLD_SIZE"):
        Launch.from_environment({"RANK": "1"})


@pytest.mark.parametrize("values", [(2, 2, 0, 2), (2, 1, 2, 2), (2, 1, 1, 4)])
def test_contradicting_numbers_are_refused(values: tuple[int, ...]) -> None:
    for names in (TORCH, *OTHERS[:-1]):
        with pytest.raises(UserError, match="contradicts itself"):
            Launch.from_environment(variables(names, *values))


def test_contradicting_launchers_are_refused() -> None:
    mpi = variables(OTHERS[0], 4, 2, 0, 2)
    for ours in (torch_variables(4, 0), torch_variables(2, 0)):  # exported by hand, the same for every process
        with pytest.raises(UserError, match="contradict OMPI_COMM_WORLD_SIZE = 4 and OMPI_COMM_WORLD_RANK = 2"):
            Launch.from_environment(mpi | ours)
    assert Launch.from_environment(mpi | torch_variables(4, 2)).rank == 2
    assert (
        Launch.from_environment(mpi | torch_variables(8, 5)).rank == 5
    )  # mpirun started one launcher on each of four hosts


def test_world_size_1_trains_a_process_alone() -> None:
    assert Launch.from_environment(SLURM_STEP | {"WORLD_SIZE": "1"}).processes == 1
    with pytest.raises(UserError, match="WORLD_SIZE=1 makes each process train alone"):
        Launch.from_environment(SLURM_STEP)


def test_torch_and_accelerate_see_only_this_launch() -> None:
    environment = variables(OTHERS[0], 4, 3, 1, 2)
    with Launch.from_environment(environment).in_environment(environment):
        pass
    assert [environment[name] for name in TORCH] == ["4", "3", "1", "2"]
    alone = {"WORLD_SIZE": "1", "LOCAL_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2", "HOME": "/"}
    before = dict(alone)
    with Launch.from_environment(alone).in_environment(alone):
        assert alone == {"HOME": "/"}
    assert alone == before


def test_local_rank_alone_makes_no_process_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with Group(Launch.from_environment({**os.environ, "ACCELERATE_USE_CPU": "1"}), 1, ProcessesConfig()) as alone:
        assert (alone.processes, alone.backend) == (1, "")


def test_process_group_of_another_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Launch, "in_environment", Launch(1, 0, 0, 1, cpu=True, precision=None).in_environment)
    for launch in (Launch(2, 0, 0, 2, cpu=True, precision=None), Launch(1, 1, 0, 1, cpu=True, precision=None)):
        PartialState(cpu=True)  # by a program that joined a group before
        with pytest.raises(UserError, match=r"started rank . of ., but this process is rank 0 of 1"):
            Group(launch, 1, ProcessesConfig())
    with Group(ONE_PROCESS, 1, ProcessesConfig()) as alone:  # the refused group was left
        assert alone.processes == 1


class Joined:
    """Accelerate's state on rank 1 of 2, which sees one GPU."""

    num_processes, process_index, is_main_process, local_process_index = 2, 1, False, 1
    device = torch.device("cuda:0")

    def __init__(self, **arguments: object):
        self.arguments, self.left = arguments, False

    def destroy_process_group(self) -> None:
        self.left = True

    def _reset_state(self) -> None:
        pass


@pytest.mark.parametrize("others", ["another GPU", "the same GPU"])
@pytest.mark.parametrize("share", [False, True])
def test_one_visible_gpu_per_rank_is_accepted(monkeypatch: pytest.MonkeyPatch, others: str, share: bool) -> None:
    store = torch.distributed.HashStore()
    store.set("infogan_dist/gpu/0", others)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="the same GPU"))
    monkeypatch.setattr(torch.distributed.distributed_c10d, "_get_default_store", lambda: store)
    monkeypatch.setattr(group, "PartialState", Joined)
    srun = SLURM_STEP | MEET | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}
    monkeypatch.setattr(os, "environ", srun)
    with pytest.raises(UserError, match="2 processes were started on a host with 1 GPUs; start 1"):
        Group(Launch.from_environment(srun), 1, ProcessesConfig())
    srun |= {"CUDA_VISIBLE_DEVICES": "0"} | ({SHARE_GPUS: "1"} if share else {})
    if others == "the same GPU" and not share:
        with pytest.raises(UserError, match=f"all 2 ranks on {socket.gethostname()} see the same GPU"):
            Group(Launch.from_environment(srun), 1, ProcessesConfig())
        return
    joined = Group(Launch.from_environment(srun), 1, ProcessesConfig())
    assert joined._state.local_process_index == 0  # as DDP needs it, though the local rank is 1
    assert joined._state.arguments["backend"] == ("gloo" if share else None)
    assert not joined._state.left
    joined._watchdog.close()
    joined._cores.free()


def test_launcher_kind_is_detected() -> None:
    assert has_parent_launcher(ACCELERATE)
    assert has_parent_launcher({"TORCHELASTIC_RUN_ID": "none"})
    assert not has_parent_launcher({"ACCELERATE_MIXED_PRECISION": "bf16"})  # exported by hand
    assert not has_parent_launcher({})
