from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from infogan_dist.networks import twice_differentiable
from infogan_dist.networks.convolutions import ChannelsLastConv2d, DownConv2d
from infogan_dist.networks.twice_differentiable import differentiated_twice

CONVOLUTIONS = {
    "1 x 1": lambda: ChannelsLastConv2d(4, 6, 1),
    "grouped, dilated, without bias": lambda: ChannelsLastConv2d(4, 8, 3, padding=2, dilation=2, groups=2, bias=False),
    "strided": lambda: ChannelsLastConv2d(4, 6, 3, stride=2, padding=1),
    "4 x 4 with stride 2": lambda: DownConv2d(5, 6),
    "its matrix product": lambda: DownConv2d(4, 6),
}


def derivatives(network: nn.Module, images: Tensor) -> list[Tensor]:
    """The gradients of a loss with a gradient penalty, of the images and of all weights."""
    images = images.clone().requires_grad_()
    logits = network(images).flatten(1).sum(1)
    (gradients,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return list(
        torch.autograd.grad(gradients.square().mean() + logits.square().mean(), [images, *network.parameters()])
    )


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_both_derivatives_equal_those_of_torch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    first = CONVOLUTIONS[name]()
    network = nn.Sequential(first, nn.Tanh(), nn.Conv2d(first.out_channels, 3, 1)).double()
    images = torch.randn(3, first.in_channels, 12, 12, dtype=torch.float64)
    expected = derivatives(network, images)
    used = []
    monkeypatch.setattr(
        twice_differentiable._InputGradient,
        "apply",
        lambda *x, apply=twice_differentiable._InputGradient.apply: used.append(x) or apply(*x),
    )
    with differentiated_twice(network):
        found = derivatives(network, images)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert bool(used) == (name != "its matrix product")


def test_gradients_of_weights_are_refused_with_create_graph() -> None:
    network = ChannelsLastConv2d(2, 3, 1)
    with differentiated_twice(network):
        output = network(torch.randn(2, 2, 4, 4)).sum()
        with pytest.raises(RuntimeError, match="appears to not have been used"):
            torch.autograd.grad(output, network.weight, create_graph=True)


def test_outside_it_is_torch_s_convolution() -> None:
    network = ChannelsLastConv2d(2, 3, 1)
    with differentiated_twice(network):
        pass
    assert "ConvolutionBackward" in network(torch.randn(2, 2, 4, 4)).grad_fn.name()
