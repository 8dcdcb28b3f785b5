"""Loads networks from untrusted files: memory is allocated only after the weights match the config."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from infogan_dist.config.schema import Config
from infogan_dist.networks import networks_on_meta

WEIGHT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def load_network(name: str, config: Config, tensors: Mapping[str, Tensor]) -> nn.Module:
    """The network `name` (G, G_ema, FE, D, Q) of a config with `tensors` as its weights and buffers, on the CPU, in their dtype.

    Raises ValueError if the names, shapes or dtypes of the tensors do not match the config.
    """
    dtype = next(iter(tensors.values())).dtype if tensors else torch.float32
    if dtype not in WEIGHT_DTYPES:
        raise ValueError(f"weights of {dtype} are not supported")
    network = networks_on_meta(config)[name].to(dtype)
    mismatch = first_mismatch(tensors, network.state_dict())
    if mismatch is not None:
        raise ValueError(f"{name} {mismatch}")
    network.to_empty(device="cpu").load_state_dict(dict(tensors))
    return network


def first_mismatch(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str | None:
    """How the first of `tensors` differs from `expected` in name, shape or dtype, as the end of a sentence; None if all match."""
    for name in [*expected, *tensors]:
        if name not in tensors:
            return f"lacks {name}"
        if name not in expected:
            return f"has an unexpected {name}"
        found, wanted = tensors[name], expected[name]
        if found.shape != wanted.shape:
            return f"has {name} of shape {list(found.shape)}, not {list(wanted.shape)}"
        if found.dtype != wanted.dtype:
            return f"has {name} in {found.dtype}, not {wanted.dtype}"
    return None


def first_shape_mismatch(shapes: Mapping[str, Mapping[str, list[int]]], config: Config) -> str | None:
    """How the recorded shapes of G, G_ema, FE, D and Q (network, then tensor) differ from the config's; None if they match."""
    for name, network in networks_on_meta(config).items():
        found, expected = shapes.get(name, {}), network.state_dict()
        for key in [*expected, *found]:
            if key not in found or key not in expected:
                return f"{name} {'lacks' if key not in found else 'has an unexpected'} {key}"
            if list(found[key]) != list(expected[key].shape):
                return f"{name} has {key} of shape {list(found[key])}, not {list(expected[key].shape)}"
    return None
