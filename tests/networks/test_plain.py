"""Trained networks in plain torch: the same function from torch's own layers."""

from __future__ import annotations

import pytest
import torch

from infogan_dist.latents import LatentSpec
from infogan_dist.networks import build_networks, resnet
from infogan_dist.networks.plain import plain_network
from tests.conftest import tiny


@pytest.mark.parametrize(
    ("family", "size", "norm_G", "norm_D"),
    [
        ("paper28", 28, "batch", "batch"),
        ("paper28", 28, "batch", "spectral"),
        ("paper32", 32, "batch", "batch"),
        ("dcgan", 32, "batch", "spectral"),
        ("resnet", 32, "none", "none"),
    ],
)
def test_plain_network_equals_the_converted_one_with_torch_layers_only(
    family: str, size: int, norm_G: str, norm_D: str
) -> None:
    norms = f"norm_G: {norm_G}, norm_D: {norm_D}"
    prior = ["latents.prior=learned", "objective.information_trains=trunk"]
    config = tiny("x", f"networks={{family: {family}, width: 4, {norms}}}", f"data.image_size={size}", *prior)
    networks = build_networks(config).named()
    x = torch.randn(5, LatentSpec.from_config(config.latents).dim, generator=torch.Generator().manual_seed(0))
    for name in ("G", "FE", "Q"):
        for module in networks[name].modules():  # statistics of a network that has trained
            if hasattr(module, "running_mean"):
                module.running_mean.uniform_(-1, 1)
                module.running_var.uniform_(0.5, 2)
        before = {key: tensor.clone() for key, tensor in networks[name].state_dict().items()}
        plain = plain_network(name, networks[name].eval(), config)
        ours = {type(module) for module in plain.modules() if not type(module).__module__.startswith("torch.")}
        assert ours <= {resnet.Residual, resnet.Double}
        with torch.no_grad():
            expected = networks[name](x)
        torch.testing.assert_close(plain(x), expected, atol=1e-5, rtol=1e-5)
        assert all(torch.equal(tensor, before[key]) for key, tensor in networks[name].state_dict().items())
        left_out = ("num_batches_tracked", "parametrizations", "class_prior")
        assert not any(word in key for key in plain.state_dict() for word in left_out)
        x = expected
