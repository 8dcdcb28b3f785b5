from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from infogan_dist.data import neighbours
from infogan_dist.data.neighbours import deskewed, nearest_neighbours, principal_components
from infogan_dist.data.sources import ArraySource
from tests.conftest import ROOT, clean_environment


def bars(count: int, height: int, slant: float = 0.0, shift: float = 0.0) -> Tensor:
    """White bars of a height in pixels, sheared and shifted, [count, 1, 28, 28] in [0, 1]."""
    ink = torch.zeros(count, 1, 28, 28)
    ink[:, :, 14 - height // 2 : 14 + height // 2, 12:16] = 1
    matrix = torch.tensor([[[1.0, slant, shift], [0.0, 1.0, shift]]]).expand(count, -1, -1)
    return F.grid_sample(ink, F.affine_grid(matrix, list(ink.shape), align_corners=False), align_corners=False)


def test_deskewing_removes_slant_and_shift() -> None:
    upright = bars(1, 16)
    leaning = bars(1, 16, slant=0.4, shift=0.15)
    before = (leaning - upright).abs().sum()
    after = (deskewed(leaning) - deskewed(upright)).abs().sum()
    assert after < 0.2 * before


def test_deskewing_does_not_change_black_images() -> None:
    assert torch.equal(deskewed(torch.zeros(2, 1, 28, 28)), torch.zeros(2, 1, 28, 28))


def test_neighbours_have_the_same_shape_at_any_slant() -> None:
    forms = [
        bars(1, height, slant, shift) for height in (6, 12, 20) for slant, shift in ((0, 0), (0.3, 0.1), (-0.3, 0))
    ]
    source = ArraySource(torch.cat(forms).mul(255).to(torch.uint8))
    found = nearest_neighbours(source, count=2)
    for form in range(3):
        own = set(range(3 * form, 3 * form + 3))
        for index in own:
            assert set(found[index].tolist()) == own - {index}


def test_neighbours_of_a_small_colour_set_are_all_other_images() -> None:
    images = torch.randint(0, 256, (3, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    found = nearest_neighbours(ArraySource(images))
    assert [sorted(row) for row in found.tolist()] == [[1, 2], [0, 2], [0, 1]]


def test_principal_components_preserve_distances_in_a_plane() -> None:
    generator = torch.Generator().manual_seed(0)
    plane = torch.randn(50, 2, generator=generator) @ torch.randn(2, 30, generator=generator)
    kept = principal_components(plane, 2)
    ours, theirs = (torch.cdist(rows.double(), rows.double()) for rows in (kept, plane))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_large_set_is_searched_in_random_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "EXHAUSTIVE_LIMIT", 999)
    monkeypatch.setattr(neighbours, "PART_SIZE", 400)
    parts = neighbours._parts(1000)
    assert [len(part) for part in parts] == [334, 333, 333]
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(1000))
    assert not torch.equal(torch.cat(parts), torch.arange(1000))
    # every image occurs twice: its twin is its nearest neighbour if both are in the same part
    images = torch.randint(0, 256, (500, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    found = nearest_neighbours(ArraySource(images.repeat(2, 1, 1, 1)), count=2)
    assert found.shape == (1000, 2)
    part_of = torch.empty(1000, dtype=torch.int64)
    for number, part in enumerate(parts):
        part_of[part] = number
    assert torch.equal(part_of[found], part_of[:, None].expand(-1, 2))
    twins = (torch.arange(1000) + 500) % 1000
    together = part_of == part_of[twins]
    assert together.sum() > 200
    assert torch.equal(found[together, 0], twins[together])
    assert (found != torch.arange(1000)[:, None]).all()


def test_exhaustive_search_is_limited_to_200000_images() -> None:
    assert len(neighbours._parts(200_000)) == 1
    assert max(map(len, neighbours._parts(200_001))) <= neighbours.PART_SIZE


class Counted(ArraySource):
    """Counts how many images are read at once."""

    largest = 0

    def read(self, indexes: Tensor) -> Tensor:
        self.largest = max(self.largest, len(indexes))
        return super().read(indexes)


def test_few_images_are_read_at_a_time() -> None:
    source = Counted(torch.zeros(5000, 1, 8, 8, dtype=torch.uint8))
    nearest_neighbours(source)
    assert source.largest <= 256


def test_neighbours_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    found: dict[int, list[dict[str, Tensor]]] = {}
    for processes in (1, 2):
        out = tmp_path / str(processes)
        out.mkdir()
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        command = [sys.executable, *(launcher if processes > 1 else []), "-m", "tests.data.neighbours_worker", str(out)]
        result = subprocess.run(command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        found[processes] = [load_file(out / f"rank{rank}.safetensors") for rank in range(processes)]
    one = found[1][0]
    assert not torch.equal(one["whole"], one["parts"])
    first, second = found[2]
    assert torch.equal(first["whole"], one["whole"])
    assert torch.equal(first["parts"], one["parts"])
    assert not torch.equal(first["machines that differ"], one["parts"])
    assert all(torch.equal(first[name], second[name]) for name in first)
