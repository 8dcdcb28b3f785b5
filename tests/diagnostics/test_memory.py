"""The prediction of the peak memory: its arithmetic has known answers. No test depends on the memory of the machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

from infogan_dist.config.schema import Config
from infogan_dist.data.host_memory import free_bytes, release_freed_memory, resident_bytes
from infogan_dist.data.neighbours import nearest_neighbours, search_bytes
from infogan_dist.data.sources import ArraySource
from infogan_dist.diagnostics.memory import Activations, StateMemory, allocated_peak, measured_sizes
from infogan_dist.diagnostics.peak_memory import MemoryCheck, PeakMemory
from infogan_dist.diagnostics.preflight import Cluster, Preflight
from infogan_dist.networks import Networks
from tests.conftest import ONE_PROCESS, tiny

CPU = torch.device("cpu")


def test_state_is_the_bytes_of_the_tensors() -> None:
    def network() -> nn.Module:
        module = nn.Linear(3, 4)  # 16 parameters
        module.register_buffer("statistics", torch.zeros(5))
        return module

    state = StateMemory.of(Networks(*(network() for _ in range(5))))
    assert state == (4 * 4 * 21, 4 * 4 * 16, 2 * 4 * 4 * 16, 4 * 21)
    assert state.checkpoint == state.weights + state.optimizer + state.average
    assert 0 < free_bytes(CPU) < 2**50


def test_allocated_peak_is_the_most_at_one_time() -> None:
    kept = []

    def action() -> None:
        kept.append(torch.zeros(1000))
        torch.zeros(5000)  # released at once
        kept.append(torch.zeros(3000))

    assert allocated_peak(action, CPU) == 4 * 6000
    assert allocated_peak(kept.clear, CPU) == 0
    with pytest.raises(ZeroDivisionError):
        allocated_peak(lambda: 1 // 0, CPU)
    assert allocated_peak(lambda: torch.zeros(10), CPU) == 40, "the failed measurement has ended"


def test_activations_are_the_line_through_the_two_largest_measurements() -> None:
    line = Activations.through({4: 1000, 8: 1100, 16: 1900})
    assert line == Activations(fixed=300, per_image=100)
    assert line.at(50) == 5300
    assert [line.most_images(available) for available in (299, 399, 5300)] == [0, 0, 50]
    assert Activations.through({5: 1000}) == Activations(fixed=0, per_image=200)


def test_measured_sizes_are_even_where_the_micro_batch_is() -> None:
    assert [measured_sizes(images, unit=1) for images in (100, 96, 6, 2, 15, 1)] == [
        [24, 50, 100],
        [24, 48, 96],
        [2, 6],
        [2],
        [3, 7, 15],
        [1],
    ]
    assert measured_sizes(20, unit=4) == [4, 8, 20], "packs are complete"


def test_peak_is_that_of_the_largest_moment() -> None:
    held, in_step = {"process": 100, "weights": 20}, {"saving": 30, "reading": 0}
    peak = PeakMemory(held, in_step, {"saving": 10}, Activations(5, 2), images=10)
    assert peak.parts() == {"process": 100, "weights": 20, "activations": 25, "saving": 30}
    assert peak.total() == 175
    assert peak.total(20) == 195
    assert peak.most_images(195) == 20
    searching = PeakMemory(held, in_step, {"neighbour search": 60}, Activations(5, 2), images=10)
    assert searching.parts() == {"process": 100, "weights": 20, "neighbour search": 60}
    assert searching.most_images(179) == 0
    assert searching.most_images(180) == 12


def test_neighbour_search_allocates_what_is_expected() -> None:
    torch.manual_seed(0)
    source = ArraySource(torch.randint(256, (5000, 1, 28, 28), dtype=torch.uint8))
    measured = allocated_peak(lambda: nearest_neighbours(source), CPU)
    assert search_bytes(5000) == pytest.approx(measured, rel=0.15)


def test_resident_memory_follows_a_large_allocation() -> None:
    release_freed_memory()
    before = resident_bytes()
    large = torch.ones(2**24)  # 64 MiB
    assert resident_bytes() - before > 2**25
    del large


@contextmanager
def memory_check(config: Config, available: int | None = None) -> Iterator[MemoryCheck]:
    with Cluster(ONE_PROCESS, 1, config.processes) as cluster:
        preflight = Preflight(config, ONE_PROCESS, cluster)
        if available is not None:
            preflight.available = available
        yield preflight.memory


def test_parts_follow_the_config(tmp_path: Path) -> None:
    recipe = "objective={information_trains: trunk, information_from: augmented, lambda_clustering: 1, neighbour_positives: 0.5}"
    for overrides, held, in_step, moments in (
        (["checkpoint.every=0"], set(), 0, {"saving"}),
        (["checkpoint.background=false"], set(), 0, {"saving"}),
        (["evaluate.every=1", recipe], {"evaluation"}, 1, {"saving", "neighbour search"}),
    ):
        with memory_check(tiny(tmp_path / "run", *overrides)) as memory:
            peak, state = memory.peak, StateMemory.of(memory._trainer.state.networks)
            assert set(peak.held) == {"process", "weights", "gradients", "optimizer", "average"} | held
            assert set(peak.moments) == moments
            assert (peak.in_step["saving"] > state.checkpoint) == in_step
            assert peak.in_step["reading"] == 0, "the images are in memory"


def test_penalties_and_accumulation_change_the_activations(tmp_path: Path) -> None:
    def per_image(*overrides: str) -> float:
        with memory_check(tiny(tmp_path / "run", "train.global_batch=24", *overrides)) as memory:
            return memory.peak.activations.per_image

    plain = per_image()
    assert (
        per_image("objective={r1_gamma: 1, r2_gamma: 1}") > 1.05 * plain
    )  # autograd keeps the first derivative for the second
    assert per_image("train.accumulate=2") < 0.95 * plain  # G's graph is not kept in the D step


def test_remedies_name_keys_and_peaks_that_fit(tmp_path: Path) -> None:
    images = ["networks={family: dcgan, width: 8}", "data.image_size=64", "train.global_batch=64"]
    with memory_check(tiny(tmp_path / "run", *images)) as memory:
        peak = memory.peak
        memory.available = (peak.total(32) + peak.total(64)) // 2
        batch = memory.largest_batch()
        assert 32 <= batch < 64
        assert peak.total(batch) <= memory.available < peak.total(batch + 1)
        accumulate, after = memory.accumulated() or (0, 0)
        assert accumulate == 2
        assert after <= memory.available
        checkpointed = memory.checkpointed()
        assert checkpointed is not None
        assert checkpointed < peak.total()
        assert memory._trainer.state.discriminator_module.checkpointing is False
        of_batch, of_accumulate, of_checkpointing, _ = memory.remedies(batch)
        assert of_batch.startswith(f"train.global_batch = {batch} gives ")
        assert "train.accumulate = 2 gives" in of_accumulate
        assert "with batch norms of smaller batches" in of_accumulate
        assert "train.gradient_checkpointing = true gives" in of_checkpointing


def test_a_batch_that_does_not_fit_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = Activations.at

    def at(line: Activations, images: int) -> int:
        seen.append(images)
        return real(line, images) + (2**60 if images == 12 else 0)

    monkeypatch.setattr(Activations, "at", at)
    with memory_check(tiny(tmp_path / "run")) as memory:
        expected = Activations.through({images: real(memory.peak.activations, images) for images in (2, 6)})
        assert memory.peak.activations.per_image == pytest.approx(expected.per_image, rel=0.01)
        assert 12 in seen
