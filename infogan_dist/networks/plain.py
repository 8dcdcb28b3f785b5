"""Trained networks in plain torch, for use outside this package."""

from __future__ import annotations

import copy

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from infogan_dist.config.schema import Config
from infogan_dist.networks import converted_networks, plain_networks
from infogan_dist.networks.convert import plain_tensors


def plain_network(name: str, network: nn.Module, config: Config) -> nn.Module:
    """The network `name` of a config (G, FE, D or Q) with the weights of a converted `network`, in float32 on the CPU and in
    evaluation mode: the same function within rounding, from torch's own layers alone. Spectral norms are computed
    into the weights."""
    source = _without_spectral_norms(network)
    plain = plain_networks(config)[name].to_empty(device="cpu")
    plain.load_state_dict(plain_tensors(source.state_dict(), converted_networks(config)[name].maps))
    for layer in plain.modules():
        if isinstance(layer, _BatchNorm):
            layer.num_batches_tracked = None  # counts training steps
    return plain.eval().requires_grad_(False)


def _without_spectral_norms(network: nn.Module) -> nn.Module:
    copied = copy.deepcopy(network).eval()
    for layer in copied.modules():
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    return copied
