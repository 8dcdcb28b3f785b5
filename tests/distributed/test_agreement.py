from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from infogan_dist.distributed.agreement import checksums, first_difference


@given(st.integers(0, 11), st.integers(0, 63))
def test_changed_bit_changes_the_checksum_of_its_tensor_only(place: int, bit: int) -> None:
    tensors = {"a": torch.randn(12, dtype=torch.float64), "b": torch.randn(3)}
    changed = {name: tensor.clone() for name, tensor in tensors.items()}
    changed["a"].view(torch.int64)[place] ^= 1 << bit if bit < 63 else -(2**63)
    assert (checksums(tensors) != checksums(changed)).tolist() == [True, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool])
def test_checksum_depends_on_the_elements_order_for_every_dtype(dtype: torch.dtype) -> None:
    tensor = torch.tensor([[0, 1], [1, 0]]).to(dtype)
    swapped = tensor.flip(1).contiguous()
    assert checksums({"a": tensor}).item() != checksums({"a": swapped}).item()
    assert checksums({"a": tensor.t().contiguous().t()}).item() == checksums({"a": tensor}).item()
    assert checksums({"step": tensor[0, 1]}).shape == (1,)


def test_checksum_compares_bits_of_nan_and_signed_zeros() -> None:
    nan = {"a": torch.tensor([float("nan")])}
    assert checksums(nan).item() == checksums({"a": nan["a"].clone()}).item()
    assert checksums({"a": torch.tensor([0.0])}).item() != checksums({"a": torch.tensor([-0.0])}).item()


@pytest.mark.parametrize(
    ("by_rank", "expected"),
    [
        ([[1, 2], [1, 2], [1, 2]], None),
        ([[1, 2], [1, 3], [1, 2]], "rank 1 of 3 differs from rank 0 in b, the first of 1"),
        ([[5, 2], [1, 3], [1, 2]], "rank 0 of 3 differs from rank 1 in a, the first of 2"),
        ([[1, 2], [9, 2]], "rank 1 of 2 differs from rank 0 in a, the first of 1"),
        ([[1, 2], [8, 2], [9, 2]], "ranks 1, 2 of 3 differ from rank 0 in a, the first of 1"),
    ],
)
def test_ranks_outside_the_largest_group_are_named(by_rank: list[list[int]], expected: str | None) -> None:
    assert first_difference(["a", "b"], torch.tensor(by_rank)) == expected
