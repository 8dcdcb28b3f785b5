"""The Adam optimizers of D and G, and their learning rates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from infogan_dist.config.model import AdamConfig, OptimizerConfig

FULL_RATE = "full_rate"  # key of a parameter group: its learning rate before the schedule


def build_optimizers(
    owned_by_D: Mapping[str, nn.Module], owned_by_G: Mapping[str, nn.Module], optimizer: OptimizerConfig
) -> tuple[Adam, Adam]:
    """One Adam for the networks of D's update and one for those of G's. Q has its own learning rate.

    On a GPU the learning rates are tensors, so that a CUDA graph can record the updates.
    """
    return _adam(owned_by_D, optimizer.D, optimizer.Q.lr), _adam(owned_by_G, optimizer.G, optimizer.Q.lr)


def _adam(owned: Mapping[str, nn.Module], settings: AdamConfig, rate_of_Q: float) -> Adam:
    device = next(parameter.device for network in owned.values() for parameter in network.parameters())
    on_gpu = device.type == "cuda"
    rates = {name: rate_of_Q if name == "Q" else settings.lr for name in owned}
    groups = [
        {
            "params": list(network.parameters()),
            "lr": torch.tensor(rates[name], device=device) if on_gpu else rates[name],
            FULL_RATE: rates[name],
        }
        for name, network in owned.items()
    ]
    betas = (settings.beta1, settings.beta2)
    return Adam(groups, betas=betas, eps=settings.eps, fused=True, capturable=on_gpu)


def set_beta2(optimizer: Optimizer, beta2: float) -> None:
    for group in optimizer.param_groups:
        group["betas"] = (group["betas"][0], beta2)


def set_rates(optimizers: Iterable[Optimizer], share: float) -> None:
    """Set every learning rate to this share of its full value."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(group[FULL_RATE] * share)
            else:
                group["lr"] = group[FULL_RATE] * share
