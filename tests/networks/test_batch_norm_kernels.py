"""Tests the calls of batch norm's CUDA kernels without a GPU, with an emulation in plain torch.

tests/test_gpu.py runs the same comparison with the real kernels.
"""

from __future__ import annotations

from itertools import count
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from infogan_dist.networks import batch_norm as layers
from infogan_dist.networks.batch_norm import BatchNorm, separate_batch_statistics
from infogan_dist.networks.batch_norm_kernels import CPUKernels, CUDAKernels, kernels_for

SHAPES = {"vectors": (5,), "maps": (5, 4, 3), "maps of 1 x 1": (5, 1, 1)}
PASSES = 3  # all parts have the statistics after the first pass, and the sums of the backward after the second


class Result(NamedTuple):
    """y and dx of the global batch, gradients of weight and bias summed over the parts, and running statistics of part 0."""

    y: Tensor
    dx: Tensor
    dweight: Tensor
    dbias: Tensor
    running_mean: Tensor
    running_var: Tensor


def example(shape: str, dtype: torch.dtype, device: str = "cpu") -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, dy, weight and bias of eight images with different means and variances."""
    generator = torch.Generator().manual_seed(0)
    draw = [torch.randn(8, *SHAPES[shape], generator=generator, dtype=torch.float64) for _ in range(2)]
    scale = torch.arange(1, 9).view(8, *[1] * len(SHAPES[shape]))
    weight, bias = torch.linspace(0.5, 2, 5), torch.linspace(-1, 1, 5)
    exact = torch.promote_types(dtype, torch.float32)
    return (
        (draw[0] * scale + scale.sqrt()).to(dtype).to(device),
        draw[1].to(dtype).to(device),
        weight.to(device, exact),
        bias.to(device, exact),
    )


def by_formula(x: Tensor, dy: Tensor, weight: Tensor, bias: Tensor, batches: int) -> Result:
    """Each batch by the formula of Ioffe & Szegedy 2015, differentiated by autograd in float64 on the CPU."""
    x, weight, bias = (tensor.detach().double().cpu().requires_grad_() for tensor in (x, weight, bias))
    ys, mean, var = [], torch.zeros(5).double(), torch.ones(5).double()
    for batch in x.chunk(batches):
        rows = batch.transpose(0, 1).flatten(1).T
        center = rows.mean(0)
        variance = (rows - center).square().mean(0)
        shape = [1, -1] + [1] * (x.dim() - 2)
        scale = weight / (variance + BatchNorm.eps).sqrt()
        ys.append((batch - center.view(shape)) * scale.view(shape) + bias.view(shape))
        mean = mean.lerp(center.detach(), BatchNorm.momentum)
        var = var.lerp(variance.detach() * len(rows) / (len(rows) - 1), BatchNorm.momentum)
    y = torch.cat(ys)
    return Result(y.detach(), *torch.autograd.grad(y, (x, weight, bias), dy.double().cpu()), mean, var)


def by_parts(x: Tensor, dy: Tensor, weight: Tensor, bias: Tensor, batches: int, parts: int) -> Result:
    """Simulate `parts` processes one after another, each with its part of every batch. Each runs PASSES times and receives what the
    others sent in the previous pass."""
    sent: dict[tuple[int, int], Tensor] = {}
    split = [
        torch.cat([batch.chunk(parts)[part] for batch in tensor.chunk(batches)])
        for part in range(parts)
        for tensor in (x, dy)
    ]
    for _ in range(PASSES):
        results = []
        for part in range(parts):
            calls = count()

            def gather(ours: Tensor, part: int = part, calls: count[int] = calls) -> Tensor:
                call = next(calls)
                sent[part, call] = ours.detach().clone()
                return torch.stack([sent.get((other, call), torch.zeros_like(ours)) for other in range(parts)])

            norm = BatchNorm(5).to(weight.device, weight.dtype)
            with torch.no_grad():
                norm.weight.copy_(weight)
                norm.bias.copy_(bias)
            norm.parts, norm.gather_parts = parts, gather
            layout = torch.channels_last if x.dim() == 4 and x.stride(1) == 1 else torch.contiguous_format
            leaf = split[2 * part].detach().contiguous(memory_format=layout).requires_grad_()
            with separate_batch_statistics(norm, batches):
                y = norm(leaf)
            assert y.is_contiguous(memory_format=layout)
            y.backward(split[2 * part + 1].contiguous())
            assert next(calls) == 2  # one exchange each way
            gradients = (leaf.grad, norm.weight.grad, norm.bias.grad)
            results.append(Result(y.detach(), *gradients, norm.running_mean, norm.running_var))  # type: ignore[arg-type]
    joined = [
        torch.cat([part for b in range(batches) for part in (getattr(r, name).chunk(batches)[b] for r in results)])
        for name in ("y", "dx")
    ]
    summed = [torch.stack([getattr(r, name) for r in results]).sum(0) for name in ("dweight", "dbias")]
    return Result(*joined, *summed, results[0].running_mean, results[0].running_var)


def assert_the_same(ours: Result, exact: Result, tolerance: float) -> None:
    for name, found, expected in zip(Result._fields, ours, exact, strict=True):
        torch.testing.assert_close(
            found.double().cpu(), expected, rtol=tolerance, atol=tolerance * expected.abs().max().item(), msg=name
        )


class Emulation:
    """torch's CUDA kernels and their requirements on arguments (ATen/native/cuda/Normalization.cu)."""

    @staticmethod
    def batch_norm_stats(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        variance, mean = torch.var_mean(_exact(x), _all_but_channels(x), correction=0)
        return mean, torch.rsqrt(variance + eps)

    @staticmethod
    def batch_norm_elemt(x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, invstd: Tensor, eps: float) -> Tensor:
        _check(x, weight, mean, invstd)
        y = (_exact(x) - _over(mean, x)) * _over(invstd * weight, x) + _over(bias, x)
        return torch.empty_like(x).copy_(y)

    @staticmethod
    def batch_norm_backward_reduce(
        dy: Tensor, x: Tensor, mean: Tensor, invstd: Tensor, weight: Tensor, input_g: bool, weight_g: bool, bias_g: bool
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        _check(x, weight, mean, invstd)
        assert dy.dtype == x.dtype
        assert dy.stride() == x.stride()
        sum_dy = _exact(dy).sum(_all_but_channels(x))
        sum_dy_xmu = (_exact(dy) * (_exact(x) - _over(mean, x))).sum(_all_but_channels(x))
        return sum_dy, sum_dy_xmu, sum_dy_xmu * invstd if weight_g else None, sum_dy if bias_g else None

    @staticmethod
    def batch_norm_backward_elemt(
        dy: Tensor,
        x: Tensor,
        mean: Tensor,
        invstd: Tensor,
        weight: Tensor,
        sum_dy: Tensor,
        sum_dy_xmu: Tensor,
        count: Tensor,
    ) -> Tensor:
        _check(x, weight, mean, invstd, sum_dy, sum_dy_xmu)
        assert (dy.dtype, dy.stride()) == (x.dtype, x.stride())
        assert count.dtype == torch.int32
        assert count.dim() == 1
        share = 1 / count.sum().to(mean.dtype)
        along = _over(invstd.square() * sum_dy_xmu * share, x)
        dx = (_exact(dy) - _over(sum_dy * share, x) - (_exact(x) - _over(mean, x)) * along) * _over(invstd * weight, x)
        return torch.empty_like(x).copy_(dx)


def _exact(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _all_but_channels(x: Tensor) -> list[int]:
    return [d for d in range(x.dim()) if d != 1]


def _over(vector: Tensor, x: Tensor) -> Tensor:
    return vector.view([1, -1] + [1] * (x.dim() - 2))


def _check(x: Tensor, weight: Tensor, *statistics: Tensor) -> None:
    assert x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)
    assert weight.dtype in (x.dtype, _exact(x).dtype)
    for each in statistics:
        assert each.dtype == _exact(x).dtype
        assert each.is_contiguous()
        assert each.shape == (x.shape[1],)


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """BatchNorm uses the emulated CUDA kernels."""
    for name in ("stats", "elemt", "backward_reduce", "backward_elemt"):
        monkeypatch.setattr(torch, f"batch_norm_{name}", getattr(Emulation, f"batch_norm_{name}"))
    monkeypatch.setattr(layers, "kernels_for", lambda device: CUDAKernels)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("batches", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-5), (torch.bfloat16, 2**-7)]
)
@pytest.mark.usefixtures("emulated")
def test_cuda_kernels_match_the_formula(
    dtype: torch.dtype, tolerance: float, channels_last: bool, shape: str, batches: int, parts: int
) -> None:
    x, dy, weight, bias = example(shape, dtype)
    if channels_last and x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    assert_the_same(by_parts(x, dy, weight, bias, batches, parts), by_formula(x, dy, weight, bias, batches), tolerance)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("batches", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_cpu_kernels_match_the_formula(shape: str, batches: int, parts: int) -> None:
    case = example(shape, torch.float64)
    assert_the_same(by_parts(*case, batches, parts), by_formula(*case, batches), 1e-11)


def test_kernels_are_chosen_by_device() -> None:
    assert kernels_for(torch.device("cpu")) is CPUKernels
    assert kernels_for(torch.device("cuda", 0)) is CUDAKernels
