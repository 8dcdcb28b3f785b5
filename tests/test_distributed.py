"""One and several processes compute the same thing. Equality is shown in float64; in float32 Adam amplifies rounding."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from infogan_dist.config import load_config
from infogan_dist.distributed import check_trackers, resolve_precision, shares
from infogan_dist.errors import UserError
from tests.conftest import ROOT, clean_environment
from tests.distributed_worker import COMBINATIONS, STEPS

PROCESSES = 2


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """What one process and two processes left, by process count."""
    folders = {}
    for processes in (1, PROCESSES):
        folders[processes] = tmp_path_factory.mktemp(f"processes-{processes}")
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        command = [sys.executable, *(launcher if processes > 1 else []), "-m", "tests.distributed_worker"]
        result = subprocess.run(
            [*command, str(folders[processes])], cwd=ROOT, env=clean_environment(), capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr
    return folders


def left(trained: dict[int, Path], processes: int, rank: int, name: str, ending: str) -> Path:
    return trained[processes] / f"{name.replace(' ', '-')}-rank{rank}{ending}"


@pytest.mark.parametrize("name", COMBINATIONS)
def test_two_processes_end_where_one_does(trained: dict[int, Path], name: str) -> None:
    one = load_file(left(trained, 1, 0, name, ".safetensors"))
    two = load_file(left(trained, PROCESSES, 0, name, ".safetensors"))
    assert one.keys() == two.keys()
    assert len(one) > 40
    for key in one:
        assert (one[key] - two[key]).abs().max() <= 1e-9, key


@pytest.mark.parametrize("name", COMBINATIONS)
def test_all_ranks_are_bit_identical(trained: dict[int, Path], name: str) -> None:
    files = [left(trained, PROCESSES, rank, name, ".safetensors").read_bytes() for rank in range(PROCESSES)]
    assert files[0] == files[1]


@pytest.mark.parametrize("name", COMBINATIONS)
def test_each_step_reduces_exactly_what_its_side_owns(trained: dict[int, Path], name: str) -> None:
    facts = json.loads(left(trained, PROCESSES, 0, name, ".json").read_text())
    for side in "DG":
        assert sum(facts["reduced"][side]) == STEPS * facts["owned"][side]


@pytest.mark.parametrize("name", COMBINATIONS)
def test_in_float32_the_first_reduced_gradients_agree(trained: dict[int, Path], name: str) -> None:
    one = load_file(left(trained, 1, 0, name, "-fp32.safetensors"))
    two = load_file(left(trained, PROCESSES, 0, name, "-fp32.safetensors"))
    assert one.keys() == two.keys()
    for network in {key.rpartition("/")[0] + "/" + key.rpartition("/")[2].partition(".")[0] for key in one}:
        ours, theirs = (torch.cat([x[key].flatten() for key in x if key.startswith(network)]) for x in (one, two))
        assert ours.norm() > 0
        assert (ours - theirs).norm() <= 1e-4 * ours.norm(), network


@pytest.mark.parametrize(("processes", "accumulate"), [(1, 1), (2, 1), (3, 2), (4, 3)])
def test_shares_cover_the_batch_once_micro_batch_first(processes: int, accumulate: int) -> None:
    by_rank = [shares(48, 24, accumulate, processes, rank) for rank in range(processes)]
    positions = [torch.cat(micro) for micro in zip(*by_rank, strict=True)]
    assert torch.cat(positions).tolist() == list(range(48, 72))
    assert {len(part) for parts in by_rank for part in parts} == {24 // processes // accumulate}


def test_fp16_on_a_cpu_is_refused_and_auto_is_resolved() -> None:
    cpu = torch.device("cpu")
    with pytest.raises(UserError, match="fp16 needs a GPU"):
        resolve_precision("fp16", cpu)
    assert resolve_precision("fp64", cpu) == "fp64"
    assert resolve_precision("auto", cpu) in ("bf16", "fp32")


def test_unknown_and_missing_trackers_are_named() -> None:
    check_trackers(load_config("debug").log.trackers)
    with pytest.raises(UserError, match="there is no tracker tensorbord"):
        check_trackers(("tensorbord",))
