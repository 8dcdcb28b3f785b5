"""D scores several images together; Q reads single ones."""

from __future__ import annotations

import pytest
import torch

from infogan_dist.data.sources import open_images
from infogan_dist.distributed.cluster import Cluster
from infogan_dist.errors import UserError
from infogan_dist.networks import build_networks
from infogan_dist.networks.joint import minibatch_std
from infogan_dist.networks.plain import plain_network
from infogan_dist.training.batches import BatchStream
from tests.conftest import ONE_PROCESS, tiny

FAMILIES = [("paper28", 28, "batch"), ("paper32", 32, "spectral"), ("dcgan", 32, "batch"), ("resnet", 32, "none")]


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


@pytest.mark.parametrize(("family", "size", "norm_D"), FAMILIES)
def test_one_image_changes_the_logits_of_its_group_only(family: str, size: int, norm_D: str) -> None:
    norm_G = "none" if family == "resnet" else "batch"
    keys = f"networks={{family: {family}, width: 4, norm_G: {norm_G}, norm_D: {norm_D}, minibatch_std: 3}}"
    networks = build_networks(tiny("x", keys, f"data.image_size={size}"))
    features = networks.FE(torch.randn(6, 1, size, size, generator=torch.Generator().manual_seed(0))).detach()
    with torch.no_grad():
        before = networks.D.eval()(features)
        features[1] += 1
        after = networks.D(features)
    assert before.shape == (6, 1)
    assert ((before != after)[:, 0] == torch.tensor([True, True, True, False, False, False])).all()


def test_plain_d_computes_the_same() -> None:
    config = tiny("x", "networks={family: dcgan, width: 4, norm_D: spectral, minibatch_std: 4}", "data.image_size=32")
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
