"""D scores several images together; Q reads single ones."""

from __future__ import annotations

import pytest
import torch

from infogan_dist.data.sources import open_images
from infogan_dist.distributed.cluster import Cluster
from infogan_dist.errors import UserError
from infogan_dist.losses import squared_gradients
from infogan_dist.networks import build_networks
from infogan_dist.networks.joint import Pack, minibatch_std
from infogan_dist.networks.plain import plain_network
from infogan_dist.training.batches import BatchStream
from tests.conftest import ONE_PROCESS, tiny

FAMILIES = [("paper28", 28, "batch"), ("paper32", 32, "spectral"), ("dcgan", 32, "batch"), ("resnet", 32, "none")]
CONTRAST = "objective.lambda_contrastive=0.1"


def test_minibatch_std_is_the_mean_deviation_of_features_in_each_group() -> None:
    group = torch.tensor([[[0.0], [0.0]], [[2.0], [6.0]]])  # deviations 1 and 3
    other = torch.full((2, 2, 1), 5.0)
    statistic = minibatch_std(torch.cat([group, other]), 2)
    torch.testing.assert_close(statistic, torch.tensor([2.0, 2.0, 1e-4, 1e-4]))


def test_minibatch_std_of_equal_images_has_a_finite_second_derivative() -> None:
    features = torch.zeros(4, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(minibatch_std(features, 4).sum(), features, create_graph=True)
    gradient.square().sum().backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()


@pytest.mark.parametrize("shape", [(), (5, 5)])
def test_pack_concatenates_channels_of_consecutive_images(shape: tuple[int, ...]) -> None:
    features = torch.arange(12.0).view(6, 2, *[1] * len(shape)).expand(6, 2, *shape)
    packed = Pack(3)(features)
    assert packed.shape == (2, 6, *shape)
    assert packed.reshape(2, 6, -1)[..., 0].tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]


@pytest.mark.parametrize("option", ["minibatch_std", "pack"])
@pytest.mark.parametrize(("family", "size", "norm_D"), FAMILIES)
def test_one_image_changes_the_logits_of_its_group_only(family: str, size: int, norm_D: str, option: str) -> None:
    norm_G = "none" if family == "resnet" else "batch"
    keys = f"networks={{family: {family}, width: 4, norm_G: {norm_G}, norm_D: {norm_D}, {option}: 3}}"
    networks = build_networks(tiny("x", keys, f"data.image_size={size}"))
    features = networks.FE(torch.randn(6, 1, size, size, generator=torch.Generator().manual_seed(0))).detach()
    with torch.no_grad():
        before = networks.D.eval()(features)
        features[1] += 1
        after = networks.D(features)
    assert (before != after).flatten().tolist() == ([True, False] if option == "pack" else [True] * 3 + [False] * 3)


def test_a_packs_logit_is_not_a_sum_over_its_images() -> None:
    D = build_networks(tiny("x", "networks={width: 4, pack: 2}")).D.eval()
    a, b, c, d = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ac, ad, bc, bd = D(torch.stack([a, c, a, d, b, c, b, d])).flatten().tolist()
    assert abs(ac - ad - bc + bd) > 1e-3


def test_gradient_penalty_is_of_a_pack() -> None:
    """D(x, y) = 3x + 4y has |∇D|² = 25 at each pack."""
    images = torch.zeros(4, 1, 1, 1, requires_grad=True)
    logits = Pack(2)(images.flatten(1)) @ torch.tensor([[3.0], [4.0]])
    assert squared_gradients(logits, images).tolist() == [25, 25]


def test_a_pack_is_one_point_between_reals_and_fakes() -> None:
    """All of its images have the same share of the real."""
    penalty = ("objective.lambda_gradient_penalty=10", "networks={width: 4, norm_D: none, pack: 3}")
    config = tiny("x", *penalty)
    with Cluster(ONE_PROCESS, 1, config.processes) as cluster:
        cluster.configure(config)
        mix = BatchStream(config, cluster, open_images(config.data)).at(2)[0].mix
    assert mix is not None
    packs = mix.view(4, 3)
    assert (packs == packs[:, :1]).all()
    assert len(packs[:, 0].unique()) == 4


@pytest.mark.parametrize("option", ["minibatch_std: 4", "pack: 2", "minibatch_std: 2, pack: 4"])
def test_plain_d_computes_the_same(option: str) -> None:
    config = tiny("x", f"networks={{family: dcgan, width: 4, norm_D: spectral, {option}}}", "data.image_size=32")
    D = build_networks(config).D.eval()
    features = torch.randn(8, 16, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(plain_network("D", D, config)(features), D(features).detach(), atol=1e-5, rtol=1e-5)


def test_a_group_must_divide_the_images_of_a_process() -> None:
    config = tiny("x", "networks.minibatch_std=4", "train.accumulate=2")
    with Cluster(ONE_PROCESS, 1, config.processes) as cluster:
        cluster.configure(config)
        with pytest.raises(UserError, match=r"networks.minibatch_std = 4 needs groups of 4 images, .* a multiple of 4"):
            BatchStream(config, cluster, open_images(config.data))
    with pytest.raises(UserError, match=r"networks.minibatch_std = 1, but one image has no deviation; use 4, or 0"):
        tiny("x", "networks.minibatch_std=1")


@pytest.mark.parametrize("option", ["minibatch_std = 4", "pack = 2"])
@pytest.mark.parametrize(
    ("key", "remedy"), [("latents.balanced=true", "balanced = false"), (CONTRAST, "contrastive = 0")]
)
def test_codes_of_images_that_d_scores_together_must_be_independent(option: str, key: str, remedy: str) -> None:
    with pytest.raises(UserError, match=rf"networks.{option} makes D score .*; set .*{remedy}$"):
        tiny("x", f"networks.{option.replace(' ', '')}", key, "latents.continuous=2")
