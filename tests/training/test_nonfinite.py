from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from infogan_dist.distributed.masked import masked
from infogan_dist.networks.batch_norm import BatchNorm
from infogan_dist.training.nonfinite import Statistics, gradient_norm, poison_nonfinite


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_nonfinite_loss_makes_every_gradient_nan(value: float) -> None:
    weight = torch.ones(3, requires_grad=True)
    poison_nonfinite(weight.sum() * 2).backward()
    assert torch.equal(weight.grad, torch.full((3,), 2.0))  # type: ignore[arg-type]
    weight.grad = None
    loss = weight.sum() * 0 + torch.tensor(value)  # its gradient is 0, not NaN
    poison_nonfinite(loss).backward()
    assert weight.grad is not None
    assert weight.grad.isnan().all()


def test_gradient_norm_is_the_joint_norm() -> None:
    first, second, unused = (nn.Parameter(torch.zeros(2)) for _ in range(3))
    first.grad, second.grad = torch.tensor([3.0, 0.0]), torch.tensor([0.0, -4.0])
    assert gradient_norm([first, second, unused]).item() == 5
    second.grad[0] = math.nan
    assert not gradient_norm([first, second]).isfinite()


@pytest.mark.parametrize("skip", [0.0, 1.0])
def test_masked_update_changes_no_weights_moments_or_counts(skip: float) -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([weight], fused=True)
    weight.grad = torch.ones(3)
    masked(optimizer, torch.tensor(0.0)).step()
    before = [weight.detach().clone(), *(value.clone() for value in optimizer.state[weight].values())]
    weight.grad = torch.full((3,), math.nan if skip else 1.0)
    masked(optimizer, torch.tensor(skip)).step()
    after = [weight.detach(), *optimizer.state[weight].values()]
    assert [torch.equal(old, new) for old, new in zip(before, after, strict=True)] == [bool(skip)] * 4


def test_statistics_are_restored_only_after_a_nonfinite_step() -> None:
    norm = BatchNorm(2)
    before = Statistics([norm])
    norm(torch.randn(5, 2))
    moved = norm.running_mean.clone()
    before.restore_unless(torch.tensor(True))
    assert torch.equal(norm.running_mean, moved)
    norm(torch.full((5, 2), math.nan))
    before.restore_unless(torch.tensor(False))
    assert torch.equal(norm.running_mean, torch.zeros(2))
    assert torch.equal(norm.running_var, torch.ones(2))
