"""Replaces plain torch layers with exact multi-process and faster ones. Names of layers and parameters do not change.

    nn.BatchNorm1d, nn.BatchNorm2d          global statistics, separate batch statistics, double backward
    4 x 4 convolutions with stride 2        one matrix product on CPUs, if that is faster
    other nn.Conv2d                         channels-last maps
    all nn.Conv2d                           a fast second derivative, for gradient penalties
    nn.Linear and nn.Unflatten into a map   a channels-last map without a copy: weight rows in H, W, C order
    nn.Flatten of a map and nn.Linear       the same: weight columns in H, W, C order

The last two reorder a weight; `plain_tensors` undoes it. Any other layer with state is refused: its state could be updated in
the wrong step, or differ between processes, without an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _LazyNormBase
from torch.nn.modules.dropout import _DropoutNd

from infogan_dist.errors import UserError
from infogan_dist.networks.batch_norm import BatchNorm, LocalBatchNorm
from infogan_dist.networks.convolutions import (
    KERNEL,
    PADDING,
    STRIDE,
    ChannelsLastConv2d,
    DownConv2d,
    FromMap,
    ToMap,
    UpConv2d,
)

CONVOLUTION_GEOMETRY = "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode"


@dataclass(frozen=True)
class Map:
    """A map [C, H, W] that is flattened in dimension `dim` of a weight: C, H, W order in plain torch, H, W, C order if converted."""

    dim: int
    shape: tuple[int, int, int]


@dataclass
class Converted:
    """A converted network, its output shape without the batch dimension, and the maps flattened in its weights, by weight."""

    network: nn.Module
    output_shape: tuple[int, ...]
    maps: dict[str, Map]


def convert(
    network: nn.Module, input_shape: Sequence[int], local_statistics: bool, name: str, examples: int = 2
) -> Converted:
    """Convert `network`, on the meta device, in place. `input_shape` lacks the batch dimension; `examples` is a batch that it takes.

    With `local_statistics` each process normalises its own part of the batch. Raises UserError for a layer with unknown state,
    named by its path below `name`.
    """
    for path, layer in network.named_modules():
        _check_known(f"{name}.{path}" if path else name, layer)
    traced = _traced(network, torch.empty(examples, *input_shape, device="meta"))
    for path, layer in list(network.named_modules()):
        if path in traced.to_maps:
            replacement: nn.Module | None = ToMap(*traced.to_maps[path])
        else:
            replacement = FromMap() if path in traced.from_maps else _replacement(layer, local_statistics)
        if replacement is not None and path:
            network.set_submodule(path, replacement)
        elif replacement is not None:
            network = replacement
    return Converted(network, traced.output_shape, {f"{path}.weight": each for path, each in traced.maps.items()})


def plain_tensors(tensors: Mapping[str, Tensor], maps: Mapping[str, Map]) -> dict[str, Tensor]:
    """The weights and buffers of a converted network, reordered as in plain torch."""
    return {name: _in_plain_order(tensor, maps[name]) if name in maps else tensor for name, tensor in tensors.items()}


def _in_plain_order(tensor: Tensor, flattened: Map) -> Tensor:
    (channels, height, width), dim = flattened.shape, flattened.dim
    unflattened: Tensor = tensor.unflatten(dim, (height, width, channels))
    return unflattened.movedim(dim + 2, dim).flatten(dim, dim + 2).contiguous()


@dataclass
class _Trace:
    """Findings of one forward pass: the linear layers next to a map, by path, and the layers that reshape between them."""

    output_shape: tuple[int, ...] = ()
    maps: dict[str, Map] = field(default_factory=dict)
    to_maps: dict[str, tuple[int, int]] = field(default_factory=dict)
    from_maps: set[str] = field(default_factory=set)


def _traced(network: nn.Module, inputs: Tensor) -> _Trace:
    trace, made_by, flattened = _Trace(), dict[int, str](), dict[int, tuple[str, tuple[int, int, int]]]()
    tensors: list[Tensor] = []  # kept alive, so that ids are unique

    def record(path: str, layer: nn.Module, x: Tensor, y: Tensor) -> None:
        tensors.extend((x, y))
        if isinstance(layer, nn.Linear):
            made_by[id(y)] = path
            if id(x) in flattened:
                reshapes, shape = flattened[id(x)]
                trace.from_maps.add(reshapes)
                trace.maps[path] = Map(1, shape)
        elif isinstance(layer, nn.Unflatten) and x.dim() == 2 and y.dim() == 4 and id(x) in made_by:
            channels, height, width = y.shape[1:]
            if height == width:
                trace.to_maps[path] = (channels, height)
                trace.maps[made_by[id(x)]] = Map(0, (channels, height, width))
        elif isinstance(layer, nn.Flatten) and x.dim() == 4 and y.dim() == 2:
            flattened[id(y)] = path, (x.shape[1], x.shape[2], x.shape[3])

    leaves = [(path, layer) for path, layer in network.named_modules() if not list(layer.children())]
    hooks = [
        layer.register_forward_hook(lambda layer, inputs, y, path=path: record(path, layer, inputs[0], y))
        for path, layer in leaves
    ]
    with torch.no_grad():
        output = network(inputs)
    for hook in hooks:
        hook.remove()
    trace.output_shape = tuple(output.shape[1:])
    return trace


def _replacement(layer: nn.Module, local_statistics: bool) -> nn.Module | None:
    """The replacement of a layer; None if it stays."""
    if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
        assert layer.momentum is not None, "_check_known refuses it"
        norm = (LocalBatchNorm if local_statistics else BatchNorm)(layer.num_features)
        norm.eps, norm.momentum = layer.eps, layer.momentum
        return norm
    if type(layer) is nn.Conv2d and _resamples(layer):
        return DownConv2d(layer.in_channels, layer.out_channels, bias=layer.bias is not None)
    if type(layer) is nn.Conv2d:
        geometry: dict[str, Any] = {key: getattr(layer, key) for key in CONVOLUTION_GEOMETRY}
        return ChannelsLastConv2d(layer.in_channels, layer.out_channels, bias=layer.bias is not None, **geometry)
    if type(layer) is nn.ConvTranspose2d and _resamples(layer):
        return UpConv2d(layer.in_channels, layer.out_channels, bias=layer.bias is not None)
    return None


def _resamples(layer: nn.Conv2d | nn.ConvTranspose2d) -> bool:
    """Whether it is 4 x 4 with stride 2 and padding 1, as `DownConv2d` and `UpConv2d` are."""
    return (
        (layer.kernel_size, layer.stride, layer.padding) == ((KERNEL,) * 2, (STRIDE,) * 2, (PADDING,) * 2)
        and (layer.dilation, layer.groups, layer.output_padding) == ((1, 1), 1, (0, 0))
        and layer.padding_mode == "zeros"
    )


def _check_known(path: str, layer: nn.Module) -> None:
    """Raises UserError for a layer whose state or random draws could differ between processes."""
    kind, remedy = type(layer).__name__, "use nn.BatchNorm1d or nn.BatchNorm2d with torch's defaults"
    if type(layer) in (nn.BatchNorm1d, nn.BatchNorm2d):
        if not layer.affine or not layer.track_running_stats or layer.momentum is None:
            raise UserError(f"{path} is a {kind} without weights, running statistics or momentum; {remedy}")
        return
    if isinstance(layer, (_BatchNorm, _LazyNormBase)) or (isinstance(layer, nn.Module) and _has_buffers(layer)):
        raise UserError(f"{path} is a {kind}, whose state this trainer does not keep equal on all processes; {remedy}")
    if isinstance(layer, (_DropoutNd, nn.RReLU)):
        raise UserError(
            f"{path} is a {kind}, which uses torch's global random generator: a resumed run would differ; remove it"
        )


def _has_buffers(layer: nn.Module) -> bool:
    return any(True for _ in layer.buffers(recurse=False))
