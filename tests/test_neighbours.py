from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from infogan_dist.data.neighbours import nearest_neighbours, principal_components, straightened
from infogan_dist.data.sources import ArraySource


def bars(count: int, height: int, slant: float = 0.0, shift: float = 0.0) -> Tensor:
    """Upright bars of a height in pixels, sheared and shifted: ink in [0, 1], [count, 1, 28, 28]."""
    ink = torch.zeros(count, 1, 28, 28)
    ink[:, :, 14 - height // 2 : 14 + height // 2, 12:16] = 1
    matrix = torch.tensor([[[1.0, slant, shift], [0.0, 1.0, shift]]]).expand(count, -1, -1)
    return F.grid_sample(ink, F.affine_grid(matrix, list(ink.shape), align_corners=False), align_corners=False)


def test_straightening_takes_slant_and_place_away() -> None:
    upright = bars(1, 16)
    leaning = bars(1, 16, slant=0.4, shift=0.15)
    before = (leaning - upright).abs().sum()
    after = (straightened(leaning) - straightened(upright)).abs().sum()
    assert after < 0.2 * before


def test_images_without_ink_stay_as_they_are() -> None:
    assert torch.equal(straightened(torch.zeros(2, 1, 28, 28)), torch.zeros(2, 1, 28, 28))


def test_neighbours_are_of_the_same_form_wherever_it_leans() -> None:
    forms = [
        bars(1, height, slant, shift) for height in (6, 12, 20) for slant, shift in ((0, 0), (0.3, 0.1), (-0.3, 0))
    ]
    source = ArraySource(torch.cat(forms).mul(255).to(torch.uint8))
    found = nearest_neighbours(source, count=2)
    for form in range(3):
        own = set(range(3 * form, 3 * form + 3))
        for index in own:
            assert set(found[index].tolist()) == own - {index}


def test_a_set_smaller_than_the_count_gives_all_others_and_colour_works() -> None:
    images = torch.randint(0, 256, (3, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    found = nearest_neighbours(ArraySource(images))
    assert [sorted(row) for row in found.tolist()] == [[1, 2], [0, 2], [0, 1]]


def test_principal_components_keep_the_distances_of_a_plane() -> None:
    generator = torch.Generator().manual_seed(0)
    plane = torch.randn(50, 2, generator=generator) @ torch.randn(2, 30, generator=generator)
    kept = principal_components(plane, 2)
    ours, theirs = (torch.cdist(rows.double(), rows.double()) for rows in (kept, plane))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
