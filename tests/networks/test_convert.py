"""Converted networks compute the same function as plain ones, with the same names. Layers with unknown state are refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from infogan_dist.config.reading import load_config
from infogan_dist.errors import UserError
from infogan_dist.latents import LatentSpec
from infogan_dist.networks import build_networks, converted_networks, family_of, initialise
from infogan_dist.networks.batch_norm import BatchNorm, LocalBatchNorm
from infogan_dist.networks.convert import Converted, convert, plain_tensors
from infogan_dist.networks.convolutions import ChannelsLastConv2d, DownConv2d, FromMap, ToMap, UpConv2d
from tests.conftest import tensors_of, tiny


def converted(network: Callable[[], nn.Module], *input_shape: int, local: bool = False) -> Converted:
    with torch.device("meta"):
        return convert(network(), input_shape, local, "FE")


@pytest.mark.parametrize("family", ["paper28", "dcgan"])
@pytest.mark.parametrize("norm", ["batch", "batch_local", "none"])
def test_converted_network_equals_the_plain_one(family: str, norm: str) -> None:
    size = {"paper28": 28, "dcgan": 32}[family]
    keys = f"networks={{family: {family}, width: 4, norm_G: {norm}, norm_D: {norm}, norm_Q: {norm}}}"
    config = tiny("x", keys, f"data.image_size={size}", "latents={noise: [{dim: 5}], categorical: [3], continuous: 1}")
    networks, spec = build_networks(config).named(), LatentSpec.from_config(config.latents)
    maps = {name: each.maps for name, each in converted_networks(config).items()}
    module, keys_ = family_of(config), config.networks
    plain = {
        "G": module.generator(keys_, spec.dim, 1, size),
        "FE": module.front_end(keys_, 1, size),
        "D": module.discriminator(keys_, size),
        "Q": module.recognition(keys_, spec.posterior_dim, size),
    }
    x = torch.randn(6, spec.dim)
    for name in ("G", "FE", "D", "Q"):
        ours = networks[name].double()
        loaded = plain[name].load_state_dict(plain_tensors(ours.state_dict(), maps[name]), strict=False)
        assert not loaded.unexpected_keys
        assert all(key.endswith("num_batches_tracked") for key in loaded.missing_keys)
        expected = plain[name].double()(x.double())
        torch.testing.assert_close(ours(x.double()), expected)
        x = x if name == "D" else expected.detach().float()
        x = expected.detach().float() if name in ("G", "FE") else x


def test_weights_next_to_a_map_are_in_channels_last_order() -> None:
    maps = {name: each.maps for name, each in converted_networks(load_config("debug", ["networks.width=2"])).items()}
    assert maps["G"]["spread.weight"].dim == 0
    assert maps["G"]["spread.weight"].shape == (4, 7, 7)
    assert maps["FE"]["gather.weight"].dim == 1
    assert maps["D"] == maps["Q"] == {}


class Residual(nn.Module):
    """A network that is not a Sequential."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, 2, 4, stride=2, padding=1)
        self.same = nn.Conv2d(2, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2, eps=1e-3, momentum=0.2)
        self.up = nn.ConvTranspose2d(2, 2, 4, stride=2, padding=1)
        self.flat = nn.Flatten()
        self.out = nn.Linear(2 * 8 * 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.down(x)
        out: Tensor = self.out(self.flat(self.up(h + self.norm(self.same(h)))))
        return out


def test_nested_and_top_level_layers_are_replaced() -> None:
    found = converted(Residual, 1, 8, 8)
    kinds = {path: type(layer) for path, layer in found.network.named_modules() if path}
    assert kinds == {
        **{"down": DownConv2d, "same": ChannelsLastConv2d, "norm": BatchNorm},
        **{"up": UpConv2d, "flat": FromMap, "out": nn.Linear},
    }
    assert found.output_shape == (3,)
    assert found.maps["out.weight"].shape == (2, 8, 8)
    norm = found.network.get_submodule("norm")
    assert isinstance(norm, BatchNorm)
    assert (norm.eps, norm.momentum) == (1e-3, 0.2)
    ours = found.network.to_empty(device="cpu")
    initialise(ours, 0, "FE")
    plain = Residual()
    plain.load_state_dict(plain_tensors(tensors_of(ours), found.maps), strict=False)
    x = torch.randn(4, 1, 8, 8)
    torch.testing.assert_close(ours(x), plain(x))
    torch.testing.assert_close(ours.get_buffer("norm.running_var"), plain.norm.running_var)


@pytest.mark.parametrize(("local", "kind"), [(False, BatchNorm), (True, LocalBatchNorm)])
def test_batch_norm_is_converted_to_global_or_local(local: bool, kind: type[nn.Module]) -> None:
    network = converted(lambda: nn.Sequential(nn.BatchNorm1d(3)), 3, local=local).network
    assert type(network.get_submodule("0")) is kind
    assert type(converted(lambda: nn.BatchNorm1d(3), 3, local=local).network) is kind  # the network may be one layer


def test_layers_between_vectors_are_not_converted() -> None:
    network = converted(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3, 8), nn.Unflatten(1, (2, 4))), 3)
    assert [type(layer) for layer in network.network.children()] == [nn.Flatten, nn.Linear, nn.Unflatten]
    assert network.maps == {}
    square = converted(lambda: nn.Sequential(nn.Linear(3, 8), nn.Unflatten(1, (2, 2, 2))), 3)
    assert type(square.network.get_submodule("1")) is ToMap


@pytest.mark.parametrize(
    ("layer", "word"),
    [
        (lambda: nn.SyncBatchNorm(3), "SyncBatchNorm"),
        (lambda: nn.LazyBatchNorm1d(), "LazyBatchNorm1d"),
        (lambda: nn.BatchNorm1d(3, affine=False), "BatchNorm1d"),
        (lambda: nn.BatchNorm1d(3, track_running_stats=False), "running statistics"),
        (lambda: nn.BatchNorm1d(3, momentum=None), "momentum"),
        (lambda: nn.InstanceNorm1d(3, track_running_stats=True), "InstanceNorm1d"),
        (lambda: spectral_norm(nn.Linear(3, 3)), "state"),
        (lambda: nn.Dropout(0.1), "Dropout"),
        (lambda: nn.RReLU(), "RReLU"),
    ],
)
def test_layer_with_unknown_state_is_refused_by_its_path(layer: Callable[[], nn.Module], word: str) -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.Sequential(layer()))
    with pytest.raises(UserError, match=rf"^FE\.1\.0.*{word}"):
        convert(network.to("meta"), (3,), False, "FE")
