"""Trained networks in plain torch, for use outside this package."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from infogan_dist.config.schema import Config
from infogan_dist.networks import converted_networks, plain_networks
from infogan_dist.networks.class_prior import PREFIX
from infogan_dist.networks.convert import plain_tensors


def plain_network(name: str, network: nn.Module, config: Config) -> nn.Module:
    """The network `name` of a config (G, FE, D or Q) in torch's own layers, with the weights of a converted `network` in evaluation mode.

    It computes the same function up to rounding, in float32 on the CPU, in evaluation mode. Spectral norms are folded into the weights.
    """
    assert not network.training, "a spectral norm would be updated"
    plain = plain_networks(config)[name].to_empty(device="cpu")
    plain.load_state_dict(plain_tensors(_computed(network), converted_networks(config)[name].maps))
    for layer in plain.modules():
        if isinstance(layer, _BatchNorm):
            layer.num_batches_tracked = None  # counts training steps
    return plain.eval().requires_grad_(False)


def _computed(network: nn.Module) -> dict[str, Tensor]:
    """Weights and buffers, with the computed weight instead of the tensors of its parametrization, and without class priors."""
    tensors = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith(PREFIX)}
    for path, layer in network.named_modules():
        if parametrize.is_parametrized(layer, "weight"):
            prefix = f"{path}.parametrizations."
            tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(prefix)}
            tensors[f"{path}.weight"] = layer.weight.detach()
    return tensors
