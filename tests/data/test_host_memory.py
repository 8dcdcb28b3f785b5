from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

import pytest
import torch

from infogan_dist.data import host_memory
from infogan_dist.diagnostics.bench.measure import peak_memory

CPU = torch.device("cpu")


def test_free_memory_without_proc_is_the_total_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS, where sysconf reports the total memory only."""
    sizes = {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 16384}
    monkeypatch.setattr(host_memory, "PROC", tmp_path)
    monkeypatch.setattr(host_memory, "CGROUPS", tmp_path)
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
    assert host_memory.free_bytes(CPU) == 1000 * 16384


def test_free_memory_without_mem_available_is_at_most_the_total_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemFree: 5 kB\n")
    monkeypatch.setattr(host_memory, "PROC", tmp_path)
    assert 0 < host_memory.free_bytes(CPU) <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_free_memory_is_mem_available(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable: 7 kB\n")
    monkeypatch.setattr(host_memory, "PROC", tmp_path)
    assert host_memory.free_bytes(CPU) == 7 * 1024


@pytest.mark.parametrize(("platform", "unit"), [("linux", 1024), ("darwin", 1)])
def test_peak_memory_is_in_bytes(platform: str, unit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        ru_maxrss = 5000

    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(resource, "getrusage", lambda who: Usage)
    assert peak_memory(CPU) == 5000 * unit


def test_allocator_without_mallopt_is_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_memory.ctypes, "CDLL", lambda name: object())
    host_memory.keep_freed_memory()
