from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.functional import interpolate
from torch.nn.utils import parametrize

from infogan_dist.config.reading import load_config
from infogan_dist.networks import build_networks, resnet
from infogan_dist.networks.batch_norm import BatchNorm, LocalBatchNorm, separate_batch_statistics
from infogan_dist.networks.convolutions import FromMap, ToMap
from infogan_dist.networks.dcgan import map_channels
from infogan_dist.networks.freeze import frozen
from infogan_dist.networks.spectral_norm import normalise_spectrally
from infogan_dist.randomness import Stream
from tests.conftest import tensors_of, tiny


def shapes_of(network: nn.Module, inputs: torch.Tensor) -> list[tuple[int, ...]]:
    """The shape after every layer."""
    seen = []
    for layer in network.children():
        inputs = layer(inputs)
        seen.append(tuple(inputs.shape[1:]))
    return seen


def test_paper28_has_the_papers_shapes() -> None:
    networks = build_networks(
        tiny("x", "networks.width=64", "latents={noise: [{dim: 62}], categorical: [10], continuous: 2}")
    )
    G = shapes_of(networks.G, torch.zeros(2, 74))
    assert [s for i, s in enumerate(G) if i in (1, 5, 8, 11)] == [(1024,), (128, 7, 7), (64, 14, 14), (1, 28, 28)]
    FE = shapes_of(networks.FE, torch.zeros(2, 1, 28, 28))
    assert [s for i, s in enumerate(FE) if i in (0, 2, 6)] == [(64, 14, 14), (128, 7, 7), (1024,)]
    assert shapes_of(networks.D, torch.zeros(2, 1024)) == [(1,)]
    assert shapes_of(networks.Q, torch.zeros(2, 1024)) == [(128,), (128,), (128,), (14,)]
    assert [type(layer).__name__ for layer in networks.Q] == ["Linear", "BatchNorm", "LeakyReLU", "Linear"]


@pytest.mark.parametrize(
    ("latents", "inputs", "outputs"),
    [
        ("{noise: [{dim: 124}], categorical: [10, 10, 10, 10], continuous: 4}", 168, 48),
        (f"{{noise: [{{dim: 128}}], categorical: {[10] * 10}, continuous: 0}}", 228, 100),
    ],
    ids=["SVHN", "CelebA"],
)
def test_paper32_has_the_papers_shapes(latents: str, inputs: int, outputs: int) -> None:
    data = "data={name: folder, root: x, image_size: 32, channels: 3}"
    networks = build_networks(tiny("x", "networks={family: paper32, width: 64}", data, f"latents={latents}"))
    G = shapes_of(networks.G, torch.zeros(2, inputs))
    assert [s for i, s in enumerate(G) if i in (2, 5, 8, 10, 12)] == [
        *((448, 2, 2), (256, 4, 4), (128, 8, 8), (64, 16, 16), (3, 32, 32))
    ]
    assert [name for name, layer in networks.G.named_children() if isinstance(layer, BatchNorm)] == [
        *("lift_norm", "up1_norm")
    ]
    FE = shapes_of(networks.FE, torch.zeros(2, 3, 32, 32))
    assert [s for i, s in enumerate(FE) if i in (0, 2, 5)] == [(64, 16, 16), (128, 8, 8), (256, 4, 4)]
    features = torch.zeros(2, 256, 4, 4)
    assert shapes_of(networks.D, features)[-1] == (1,)
    assert shapes_of(networks.Q, features)[1:] == [(128,), (128,), (128,), (outputs,)]


def test_dcgan_has_the_reports_shapes() -> None:
    report = (
        "networks={family: dcgan, width: 64}",
        "data.image_size=64",
        "latents={noise: [{dim: 54}], categorical: [10]}",
    )
    networks = build_networks(tiny("x", *report))
    images = networks.G(torch.zeros(2, 64, 1, 1))
    features = networks.FE(images)
    assert images.shape == (2, 1, 64, 64)
    assert features.shape == (2, 512, 4, 4)
    assert networks.D(features).shape == (2, 1)
    assert networks.Q(features).shape == (2, 10)
    count = sum(p.numel() for p in networks.FE.parameters())
    assert count == 64 * 16 + 64 + 16 * (64 * 128 + 128 * 256 + 256 * 512) + 2 * (128 + 256 + 512)


@pytest.mark.parametrize("size", [32, 64, 128, 256])
@pytest.mark.parametrize("channels", [1, 3])
def test_dcgan_supports_its_image_sizes(size: int, channels: int) -> None:
    folder = f"data={{name: folder, root: x, image_size: {size}, channels: {channels}}}"
    config = tiny("x", "networks={family: dcgan, width: 2}", folder)
    networks = build_networks(config)
    images = networks.G(torch.randn(3, 32))
    assert images.shape == (3, channels, size, size)
    assert networks.D(networks.FE(images)).shape == (3, 1)
    assert max(map_channels(2, size)) <= 16


RESNET = "networks={family: resnet, width: 16, norm_G: none, norm_D: none}"


@pytest.mark.parametrize("size", [32, 64, 128, 256])
@pytest.mark.parametrize("channels", [1, 3])
def test_resnet_supports_its_image_sizes(size: int, channels: int) -> None:
    small = "networks={family: resnet, width: 2, norm_G: none, norm_D: none}"
    config = tiny("x", small, f"data={{name: folder, root: x, image_size: {size}, channels: {channels}}}")
    networks = build_networks(config)
    images = networks.G(torch.randn(3, 32))
    assert images.shape == (3, channels, size, size)
    assert networks.D(networks.FE(images)).shape == (3, 1)


def test_resnet_doubles_maps_bilinearly() -> None:
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    torch.testing.assert_close(resnet.Double()(x), interpolate(x, scale_factor=2, mode="bilinear"))
    halved = interpolate(x, scale_factor=0.5, mode="bilinear")
    torch.testing.assert_close(nn.AvgPool2d(2)(x), halved)


def test_resnet_has_no_norms_and_blocks_of_grouped_convolutions() -> None:
    networks = build_networks(tiny("x", RESNET.replace("width: 16", "width: 64"), "data.image_size=64"))
    features = networks.FE(torch.zeros(2, 1, 64, 64))
    assert features.shape == (2, 256, 4, 4)
    for network in (networks.G, networks.FE):
        blocks = [module for module in network.modules() if isinstance(module, resnet.Residual)]
        assert len(blocks) == 2 * 5
        groups = sorted(block.branch.grouped.in_channels // block.branch.grouped.groups for block in blocks)
        assert groups == [16] * 10
    modules = [module for network in networks.named().values() for module in network.modules()]
    assert not any(isinstance(module, BatchNorm) for module in modules)


def test_resnet_starts_as_the_identity_with_fixup_initialisation() -> None:
    FE = build_networks(tiny("x", RESNET, "data.image_size=32")).FE
    x = torch.randn(2, 32, 4, 4)
    block = FE.stage3.block1
    assert torch.equal(block(x), x)
    he = (2 / (1 + 0.2**2) / 32) ** 0.5
    assert block.branch.expand.weight.std().item() == pytest.approx(he * 8**-0.25, rel=0.05)
    assert not block.branch.shrink.weight.any()
    images = torch.randn(2, 1, 32, 32)
    FE(images).square().mean().backward()
    assert all(p.grad is not None for p in FE.parameters())
    assert block.branch.shrink.weight.grad.any()


@pytest.mark.parametrize("family", ["paper28", "paper32", "dcgan"])
@pytest.mark.parametrize("kind", ["batch", "batch_local", "none"])
def test_batch_of_one_works_and_no_bias_precedes_a_batch_norm(family: str, kind: str) -> None:
    size = 28 if family == "paper28" else 32
    norms = f"networks={{family: {family}, width: 4, norm_G: {kind}, norm_D: {kind}}}"
    networks = build_networks(tiny("x", norms, f"data.image_size={size}"))
    for batch in (1, 5):
        latent = torch.randn(batch, 32)
        images = networks.G(latent)
        features = networks.FE(images)
        assert networks.D(features).shape == (batch, 1)
        assert networks.Q(features).shape[0] == batch
        assert images.abs().max() <= 1
    for network in networks.named().values():
        layers = [layer for layer in network.children() if not isinstance(layer, ToMap)]
        for layer, following in pairwise(layers):
            if isinstance(following, BatchNorm):
                assert layer.bias is None


@pytest.mark.parametrize(
    ("networks", "kind"),
    [
        ("family: paper28", BatchNorm),
        ("family: paper28, norm_D: batch_local", LocalBatchNorm),
        ("family: paper28, norm_D: spectral", nn.Identity),
        ("family: paper28, norm_D: spectral, norm_Q: batch", BatchNorm),
        ("family: paper28, norm_Q: none", nn.Identity),
        ("family: paper32", BatchNorm),
        ("family: dcgan", nn.Identity),
        ("family: dcgan, norm_D: none, norm_Q: batch", BatchNorm),
    ],
)
def test_Q_has_the_norm_of_its_family_or_of_the_config(networks: str, kind: type[nn.Module]) -> None:
    size = 28 if "paper28" in networks else 32
    Q = build_networks(tiny("x", f"networks={{{networks}, width: 2}}", f"data.image_size={size}")).Q
    assert isinstance(Q, nn.Sequential)
    hidden, after = Q.get_submodule("hidden"), Q.get_submodule("hidden_norm")
    assert type(after) is kind
    assert (hidden.bias is None) == isinstance(after, BatchNorm)


def test_initial_weights_depend_only_on_the_seed() -> None:
    torch.manual_seed(1)
    a = build_networks(tiny("x"))
    torch.manual_seed(2)
    b, c = build_networks(tiny("y")), build_networks(tiny("x", "seed=5"))
    for name, network in a.named().items():
        assert all(map(torch.equal, tensors_of(network).values(), tensors_of(b.named()[name]).values()))
    assert not torch.equal(a.G.lift.weight, c.G.lift.weight)
    assert a.G.lift.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert a.G.lift_norm.weight.mean().item() == pytest.approx(1.0, abs=0.02)
    assert not torch.equal(a.FE.from_image.weight.flatten()[:8], a.FE.down.weight.flatten()[:8])


def test_linear_layers_equal_the_convolutions_of_other_ports() -> None:
    torch.manual_seed(0)
    lift, to_map = nn.Linear(6, 5 * 4 * 4, bias=False), ToMap(5, 4)
    transposed = nn.ConvTranspose2d(6, 5, 4, bias=False)
    transposed.weight.data = lift.weight.data.view(4, 4, 5, 6).permute(3, 2, 0, 1)
    z = torch.randn(3, 6)
    torch.testing.assert_close(to_map(lift(z)), transposed(z[:, :, None, None]))

    covers, gather = nn.Conv2d(5, 7, 4, bias=False), nn.Linear(5 * 4 * 4, 7, bias=False)
    gather.weight.data = covers.weight.data.permute(0, 2, 3, 1).flatten(1)
    x = torch.randn(3, 5, 4, 4)
    torch.testing.assert_close(gather(FromMap()(x)), covers(x).flatten(1))


def test_to_map_and_from_map_do_not_copy() -> None:
    vector = torch.randn(2, 5 * 4 * 4)
    maps = ToMap(5, 4)(vector)
    assert maps.is_contiguous(memory_format=torch.channels_last)
    assert FromMap()(maps).data_ptr() == vector.data_ptr()


@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5, 2)])
def test_global_batch_norm_equals_torchs(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x, weights = torch.randn(shape, dtype=torch.float64) * 3 + 5, torch.randn(shape, dtype=torch.float64)
    theirs = (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(3).double()
    ours = BatchNorm(3).double()
    ours.load_state_dict(theirs.state_dict(), strict=False)
    by_parts = BatchNorm(3).double()
    by_parts.gather_parts = lambda ours: ours[None]
    results = []
    for module in (theirs, ours, by_parts):
        leaf = x.clone().requires_grad_()
        for _ in range(2):
            out = module(leaf)
        (out * weights).sum().backward()
        results.append((out, leaf.grad, module.weight.grad, module.bias.grad, module.running_mean, module.running_var))
    for theirs_value, ours_value, parts_value in zip(*results, strict=True):
        torch.testing.assert_close(ours_value, theirs_value)
        torch.testing.assert_close(parts_value, theirs_value)
    for module in (theirs, ours, by_parts):
        module.eval()
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(by_parts(x), theirs(x))


def test_batch_norm_of_two_parts_has_the_statistics_of_the_batch() -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 3, 2, 2, dtype=torch.float64) * torch.arange(1, 9).view(8, 1, 1, 1) + 5
    whole, here = BatchNorm(3).double(), BatchNorm(3).double()
    there = torch.cat([*torch.var_mean(x[4:], [0, 2, 3], correction=0)][::-1])
    here.parts, here.gather_parts = 2, lambda ours: torch.stack([ours, there])
    torch.testing.assert_close(here(x[:4]), whole(x)[:4])
    torch.testing.assert_close(here.running_mean, whole.running_mean)
    torch.testing.assert_close(here.running_var, whole.running_var)


@pytest.mark.parametrize("by_parts", [False, True])
def test_two_batches_in_one_pass_have_separate_statistics(by_parts: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 3, 2, 2, dtype=torch.float64) * torch.arange(1, 9).view(8, 1, 1, 1) + 5
    alone, together = BatchNorm(3).double(), BatchNorm(3).double()
    results = []
    for module in (alone, together):
        module.gather_parts = (lambda ours: ours[None]) if by_parts else None
        leaf = x.clone().requires_grad_()
        if module is together:
            with separate_batch_statistics(module, 2):
                y = module(leaf)
        else:
            y = torch.cat([module(leaf[:4]), module(leaf[4:])])
        (y * torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view_as(y)).sum().backward()
        results.append((y, leaf.grad, module.weight.grad, module.bias.grad, module.running_mean, module.running_var))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert together.batches == 1
    assert not torch.allclose(together(x), results[0][0])  # one batch of eight has other statistics


def test_two_batches_of_two_parts_need_one_exchange_each_way() -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 3, dtype=torch.float64)
    exchanged: list[int] = []

    def gather(ours: Tensor) -> Tensor:
        exchanged.append(ours.numel())
        return ours[None]

    module = BatchNorm(3).double()
    module.gather_parts = gather
    with separate_batch_statistics(module, 2):
        module(x).sum().backward()
    assert exchanged == [2 * 2 * 3, 2 * 2 * 3]  # two batches, two vectors, three channels


def test_batch_norm_has_first_and_second_derivatives() -> None:
    module = BatchNorm(2).double()
    module.gather_parts = lambda ours: ours[None]
    x = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    with frozen(module):
        assert gradcheck(module, (x,))
        assert gradgradcheck(module, (x,))
    pair = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    with frozen(module), separate_batch_statistics(module, 2):
        assert gradcheck(module, (pair,))
        assert gradgradcheck(module, (pair,))


def test_global_batch_norm_of_bfloat16_has_float32_statistics() -> None:
    torch.manual_seed(0)
    x = (torch.randn(64, 3, 5, 5) + 3).bfloat16().requires_grad_()
    whole, by_parts = BatchNorm(3), BatchNorm(3)
    by_parts.gather_parts = lambda ours: ours[None]
    results = []
    for module in (whole, by_parts):
        y = module(x)
        (dx,) = torch.autograd.grad((y.float() * torch.linspace(-1, 1, 64).view(64, 1, 1, 1)).sum(), x)
        results.append((y, dx, module.running_mean, module.running_var))
    for ours, theirs in zip(*results, strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, rtol=2**-6, atol=1e-3)
    torch.testing.assert_close(by_parts.running_mean, 0.1 * x.detach().float().mean((0, 2, 3)))


def test_batch_norm_variance_is_exact_for_large_means() -> None:
    module = BatchNorm(1)
    module.gather_parts = lambda ours: ours[None]
    x = torch.randn(1000, 1) + 10_000
    assert module(x).std().item() == pytest.approx(1, rel=0.01)


def test_frozen_networks_compute_the_same_and_do_not_change() -> None:
    network = nn.Sequential(nn.Linear(3, 3), BatchNorm(3))
    x = torch.randn(4, 3, requires_grad=True)
    before = tensors_of(network)
    with frozen(network):
        out = network(x)
        out.sum().backward()
    assert x.grad is not None
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in tensors_of(network).items())
    torch.testing.assert_close(network(x), out)
    assert not torch.equal(network[1].running_mean, before["1.running_mean"])


def spectral_network(scale: float = 3.0) -> nn.Sequential:
    network = nn.Sequential(nn.Conv2d(2, 5, 3), nn.Flatten(), nn.Linear(5 * 4, 4)).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=scale)
    normalise_spectrally(network, Stream(0, "spectral"))
    return network.double()


def largest_singular_value(weight: torch.Tensor) -> float:
    return torch.linalg.matrix_norm(weight.detach().flatten(1), 2).item()


def test_spectral_norm_scales_the_largest_singular_value_to_one() -> None:
    network, x = spectral_network(), torch.randn(3, 2, 4, 4, dtype=torch.float64)
    for _ in range(200):
        network(x)
    for layer in (network[0], network[2]):
        assert largest_singular_value(layer.weight) == pytest.approx(1, abs=1e-4)
        assert largest_singular_value(layer.parametrizations.weight.original) > 2
    assert gradcheck(
        lambda weight: network[2].parametrizations.weight[0].eval()(weight),
        (network[2].parametrizations.weight.original.detach().requires_grad_(),),
    )


def test_spectral_vectors_come_from_the_seed_and_change_only_in_training() -> None:
    torch.manual_seed(1)
    one = build_networks(load_config("debug", ["networks.norm_D=spectral"]))
    torch.manual_seed(2)
    two = build_networks(load_config("debug", ["networks.norm_D=spectral"]))
    vectors = {name: value for name, value in tensors_of(one.FE).items() if name.endswith(".u")}
    assert len(vectors) == 3
    assert all(torch.equal(value, tensors_of(two.FE)[name]) for name, value in vectors.items())
    assert not any(name.endswith(".u") for name in tensors_of(one.Q))
    network, x = spectral_network(), torch.randn(3, 2, 4, 4, dtype=torch.float64)
    before = tensors_of(network)
    with frozen(network):
        network(x)
    network.eval()(x)
    assert all(torch.equal(value, before[name]) for name, value in tensors_of(network).items())
    with parametrize.cached():
        network.train()(x)
        once = tensors_of(network)
        network(x)
    assert all(torch.equal(value, once[name]) for name, value in tensors_of(network).items())
    assert not torch.equal(once["2.parametrizations.weight.0.u"], before["2.parametrizations.weight.0.u"])
