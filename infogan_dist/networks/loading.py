"""Loads networks from files: a config and weights may both be forged, so memory is allocated only once they agree."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from infogan_dist.config.schema import Config
from infogan_dist.networks import networks_on_meta

WEIGHT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def load_network(name: str, config: Config, tensors: Mapping[str, Tensor]) -> nn.Module:
    """The network `name` of a config (G, G_ema, FE, D, Q) with `tensors` as its weights and buffers, on the CPU, in their dtype.

    Raises ValueError where the tensors are not exactly those that the config describes.
    """
    dtype = next(iter(tensors.values())).dtype if tensors else torch.float32
    if dtype not in WEIGHT_DTYPES:
        raise ValueError(f"weights of {dtype} are not supported")
    network = networks_on_meta(config)[name].to(dtype)
    difference = first_misfit(tensors, network.state_dict())
    if difference is not None:
        raise ValueError(f"{name} {difference}")
    network.to_empty(device="cpu").load_state_dict(dict(tensors))
    return network


def first_misfit(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str | None:
    """How the first of `tensors` differs from `expected` in name, shape or dtype, in words; None where all fit."""
    for name in [*expected, *tensors]:
        if name not in tensors:
            return f"lacks {name}"
        if name not in expected:
            return f"has no use for {name}"
        found, wanted = tensors[name], expected[name]
        if found.shape != wanted.shape:
            return f"has {name} of shape {list(found.shape)}, not {list(wanted.shape)}"
        if found.dtype != wanted.dtype:
            return f"has {name} in {found.dtype}, not {wanted.dtype}"
    return None


def first_misfit_of_shapes(shapes: Mapping[str, Mapping[str, list[int]]], config: Config) -> str | None:
    """How the recorded shapes of G, G_ema, FE, D and Q, by network and tensor, differ from those that a config describes."""
    for name, network in networks_on_meta(config).items():
        found, expected = shapes.get(name, {}), network.state_dict()
        for key in [*expected, *found]:
            if key not in found or key not in expected:
                return f"{name} {'lacks' if key not in found else 'has no use for'} {key}"
            if list(found[key]) != list(expected[key].shape):
                return f"{name}'s {key} is {list(found[key])}, not {list(expected[key].shape)}"
    return None
