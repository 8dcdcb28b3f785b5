"""Networks packed for the page's kernel, computed here in the way of the kernel."""

from __future__ import annotations

import base64

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d

from infogan_dist.export.page.pack import TAPS, Layer, NotForPage, encoded, layers_of, multiply_adds
from infogan_dist.latents import LatentSpec
from infogan_dist.networks import build_networks
from tests.conftest import tiny
from tests.export.page.conftest import roughen


def computed(layers: list[Layer], x: Tensor) -> Tensor:
    """What the kernel promises, in torch: x [B, inputs], a map as [H, W, C]."""
    for layer in layers:
        if layer.kind == "linear":
            y = x @ layer.weight.T + layer.bias
        else:
            side = round((x.shape[1] / layer.inputs) ** 0.5)
            image = x.unflatten(1, (side, side, layer.inputs)).permute(0, 3, 1, 2)
            if layer.kind == "halving":
                out = conv2d(image, layer.weight.permute(0, 3, 1, 2), layer.bias, stride=2, padding=1)
            else:
                out = conv_transpose2d(image, layer.weight.permute(3, 0, 1, 2), layer.bias, stride=2, padding=1)
            y = out.permute(0, 2, 3, 1).flatten(1)
        y = torch.where(y < 0, y * layer.slope, y)
        x = y.tanh() if layer.tanh else y
    return x


@pytest.mark.parametrize("family", ["paper28", "dcgan"])
@pytest.mark.parametrize(("norm_G", "norm_D"), [("batch", "batch"), ("none", "spectral"), ("batch_local", "none")])
def test_folded_layers_compute_what_the_networks_do(family: str, norm_G: str, norm_D: str) -> None:
    size, channels = {"paper28": (28, 1), "dcgan": (32, 3)}[family]
    config = tiny(
        "x",
        f"networks={{family: {family}, width: 4, norm_G: {norm_G}, norm_D: {norm_D}}}",
        f"data={{name: folder, root: x, image_size: {size}, channels: {channels}}}",
        "latents={noise: [{dim: 5}, {dim: 3, distribution: normal}], categorical: [4, 2], continuous: 1}",
    )
    networks, spec = build_networks(config).named(), LatentSpec.from_config(config.latents)
    for network in networks.values():
        roughen(network.eval(), torch.Generator().manual_seed(0))
    z, images = torch.randn(3, spec.dim), torch.rand(3, channels, size, size) * 2 - 1
    G, Q = layers_of(networks["G_ema"], "G"), layers_of(networks["FE"], "FE") + layers_of(networks["Q"], "Q")
    with torch.no_grad():
        drawn = networks["G_ema"](z).permute(0, 2, 3, 1).flatten(1)
        read = networks["Q"](networks["FE"](images))
    assert drawn.std() > 0.2
    torch.testing.assert_close(computed(G, z), drawn, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(computed(Q, images.permute(0, 2, 3, 1).flatten(1)), read, atol=1e-4, rtol=1e-4)


def test_the_work_of_the_papers_networks() -> None:
    config = tiny("x", "networks={width: 64}", "latents={noise: [{dim: 62}], categorical: [10], continuous: 2}")
    G = layers_of(build_networks(config).G_ema, "G")
    by_hand = 74 * 1024 + 1024 * 6272 + 49 * 128 * 64 * 16 + 196 * 64 * 1 * 16
    assert multiply_adds(G, 74) == by_hand


def test_a_doubling_is_stored_by_the_parity_of_its_outputs() -> None:
    kernel = torch.arange(16.0).view(1, 4, 4, 1)  # value = 4 * row + column
    stored = Layer("doubling", kernel, torch.zeros(1)).in_kernel_order().view(2, 2, 2, 2)
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        expected = [[4 * row + column for column in TAPS[right]] for row in TAPS[down]]
        assert stored[down, right].tolist() == expected


def test_biases_come_first_in_full_and_weights_in_half_precision() -> None:
    layer = Layer("linear", torch.tensor([[1.0, 2.0]]), torch.tensor([0.1]))
    content = base64.b64decode(encoded([layer]))
    assert np.frombuffer(content[:4], "<f4") == np.float32(0.1)
    assert np.frombuffer(content[4:], "<f2").tolist() == [1, 2]
    with pytest.raises(NotForPage, match="fp16"):
        encoded([Layer("linear", torch.tensor([[1e5]]), torch.zeros(1))])


def test_a_layer_that_the_kernel_lacks_is_named() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Sigmoid()))
    with pytest.raises(NotForPage, match=r"G\.1\.0 is a Sigmoid"):
        layers_of(network, "G")
    with pytest.raises(NotForPage, match=r"G\.2 is a ReLU"):  # an activation of another
        layers_of(nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.ReLU()), "G")
