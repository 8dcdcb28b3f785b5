"""The convolutions equal torch's: the same outputs, derivatives, weights and state."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from infogan_dist.networks import convolutions
from infogan_dist.networks.convolutions import DownConv2d, UpConv2d

# channels of the larger and of the smaller map, and side of the larger: a grey image, a colour image, a small map, a large map
SHAPES = [(1, 6, 12), (3, 5, 10), (6, 7, 8), (5, 6, 20)]
FORMS = {"an image": True, "a colour image": True, "a small map": True, "a large map": False}


@pytest.mark.parametrize(("shape", "matrix"), list(zip(SHAPES, FORMS.values(), strict=True)), ids=FORMS)
def test_outputs_and_gradients_equal_torchs(
    shape: tuple[int, int, int], matrix: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    large, small, size = shape
    products: list[Tensor] = []
    real = convolutions._patch_matrix
    monkeypatch.setattr(convolutions, "_patch_matrix", lambda *given: products.append(given[0]) or real(*given))
    torch.manual_seed(0)
    pairs = [
        (DownConv2d(large, small), nn.Conv2d(large, small, 4, 2, 1), (2, large, size, size)),
        (UpConv2d(small, large), nn.ConvTranspose2d(small, large, 4, 2, 1), (2, small, size // 2, size // 2)),
    ]
    for ours, theirs, shape_in in pairs:
        theirs.load_state_dict(ours.state_dict())
        results = []
        x = torch.randn(shape_in, dtype=torch.float64)
        for module in (ours.double(), theirs.double()):
            leaf = x.clone().requires_grad_()
            y = module(leaf)
            (y * torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view_as(y)).sum().backward()
            results.append((y, leaf.grad, module.weight.grad, module.bias.grad))
        for ours_value, theirs_value in zip(*results, strict=True):
            torch.testing.assert_close(ours_value, theirs_value)
    assert len(products) == (2 if matrix else 0)


@pytest.mark.parametrize("channels", [1, 6])
def test_convolutions_have_first_and_second_derivatives(channels: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, channels, 4, 4, dtype=torch.float64, requires_grad=True)
    for module in (DownConv2d(channels, 3).double(), UpConv2d(channels, 3).double(), UpConv2d(channels, 6).double()):
        weight = module.weight.detach().requires_grad_()

        def apply(x: Tensor, weight: Tensor, module: nn.Module = module) -> Tensor:
            return torch.func.functional_call(module, {"weight": weight}, (x,))

        assert gradcheck(apply, (x, weight))
        assert gradgradcheck(apply, (x, weight))


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32), (8, 8)])
def test_convolutions_keep_channels_last(channels: int, size: int) -> None:
    """Otherwise a convolution with one channel could return the contiguous layout, and later layers would copy."""
    image = torch.randn(2, channels, size, size)
    assert DownConv2d(channels, 8)(image).is_contiguous(memory_format=torch.channels_last)
    small = torch.randn(2, 8, size // 2, size // 2).contiguous(memory_format=torch.channels_last)
    assert UpConv2d(8, channels)(small).is_contiguous(memory_format=torch.channels_last)
    laid_out = convolutions._channels_last(image)
    assert torch.equal(laid_out, image)
    assert laid_out.stride() == (channels * size * size, 1, size * channels, channels)


def test_matrix_product_uses_the_autocast_dtype() -> None:
    torch.manual_seed(0)
    halving, doubling = DownConv2d(1, 6), UpConv2d(6, 1)
    image, small = torch.randn(2, 1, 12, 12), torch.randn(2, 6, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        y, back = halving(image), doubling(small)
    assert y.dtype == back.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), F.conv2d(image, halving.weight, halving.bias, 2, 1), rtol=0.02, atol=0.02)
    exact = F.conv_transpose2d(small, doubling.weight, doubling.bias, 2, 1)
    torch.testing.assert_close(back.float(), exact, rtol=0.02, atol=0.02)
    y.float().square().sum().backward()
    assert halving.weight.grad is not None
    assert halving.weight.grad.dtype == torch.float32
