"""Swaps plain torch layers for those that exactness and speed need. Names of layers and parameters stay.

    nn.BatchNorm1d, nn.BatchNorm2d          statistics of the global batch, separate batches, double backward
    4 x 4 convolutions of stride 2          one matrix product on CPUs, where that is faster
    nn.Linear and nn.Unflatten into a map   the map channels last without a copy: rows in H, W, C order
    nn.Flatten of a map and nn.Linear       the same: columns in H, W, C order

The last two change the order of a weight; `plain_tensors` undoes it. A layer with state that is none of these is refused: its
statistics would move in the wrong step, or differ between processes, without an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _LazyNormBase
from torch.nn.modules.dropout import _DropoutNd

from infogan_dist.errors import UserError
from infogan_dist.networks.batch_norm import BatchNorm, LocalBatchNorm
from infogan_dist.networks.convolutions import KERNEL, PADDING, STRIDE, Doubling, FromMap, Halving, ToMap

EXAMPLES = 2  # images of the forward pass that finds the maps


@dataclass(frozen=True)
class Map:
    """A map [C, H, W] that dimension `dim` of a weight runs over: in C, H, W order in plain torch, in H, W, C order converted."""

    dim: int
    shape: tuple[int, int, int]


@dataclass
class Converted:
    """A converted network, the shape of its output for one example, and the maps that its weights run over, by weight."""

    network: nn.Module
    output_shape: tuple[int, ...]
    maps: dict[str, Map]


def convert(network: nn.Module, input_shape: Sequence[int], local_statistics: bool, name: str) -> Converted:
    """`network`, on the meta device, converted in place; `input_shape` is that of one example, without the batch dimension.

    `local_statistics` leaves each batch norm to the part of the batch at hand. Raises UserError for a layer with state that is
    not known here; the message calls it by its path below `name`.
    """
    for path, layer in network.named_modules():
        _check_known(f"{name}.{path}" if path else name, layer)
    traced = _traced(network, input_shape)
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
    """The weights and buffers of a converted network in the order of its plain form."""
    return {name: _in_plain_order(tensor, maps[name]) if name in maps else tensor for name, tensor in tensors.items()}


def _in_plain_order(tensor: Tensor, over: Map) -> Tensor:
    channels, height, width = over.shape
    by_position: Tensor = tensor.unflatten(over.dim, (height, width, channels))
    return by_position.movedim(over.dim + 2, over.dim).flatten(over.dim, over.dim + 2).contiguous()


@dataclass
class _Trace:
    """What a forward pass shows: the linear layers next to a map, by path, and the layers that reshape between them."""

    output_shape: tuple[int, ...] = ()
    maps: dict[str, Map] = field(default_factory=dict)
    to_maps: dict[str, tuple[int, int]] = field(default_factory=dict)
    from_maps: set[str] = field(default_factory=set)


def _traced(network: nn.Module, input_shape: Sequence[int]) -> _Trace:
    trace, made_by, flattened = _Trace(), dict[int, str](), dict[int, tuple[str, tuple[int, int, int]]]()
    tensors: list[Tensor] = []  # kept, so that no two have one id

    def look(path: str, layer: nn.Module, x: Tensor, y: Tensor) -> None:
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
        layer.register_forward_hook(lambda layer, inputs, y, path=path: look(path, layer, inputs[0], y))
        for path, layer in leaves
    ]
    with torch.no_grad():
        output = network(torch.empty(EXAMPLES, *input_shape, device="meta"))
    for hook in hooks:
        hook.remove()
    trace.output_shape = tuple(output.shape[1:])
    return trace


def _replacement(layer: nn.Module, local_statistics: bool) -> nn.Module | None:
    """What stands in for a layer; None where it stays."""
    if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
        assert layer.momentum is not None, "checked before"
        norm = (LocalBatchNorm if local_statistics else BatchNorm)(layer.num_features)
        norm.eps, norm.momentum = layer.eps, layer.momentum
        return norm
    if type(layer) is nn.Conv2d and _halves_or_doubles(layer):
        return Halving(layer.in_channels, layer.out_channels, bias=layer.bias is not None)
    if type(layer) is nn.ConvTranspose2d and _halves_or_doubles(layer):
        return Doubling(layer.in_channels, layer.out_channels, bias=layer.bias is not None)
    return None


def _halves_or_doubles(layer: nn.Conv2d | nn.ConvTranspose2d) -> bool:
    return (
        (layer.kernel_size, layer.stride, layer.padding) == ((KERNEL,) * 2, (STRIDE,) * 2, (PADDING,) * 2)
        and (layer.dilation, layer.groups, layer.output_padding) == ((1, 1), 1, (0, 0))
        and layer.padding_mode == "zeros"
    )


def _check_known(path: str, layer: nn.Module) -> None:
    """Raises UserError for a layer whose state or draws would differ between processes or move in the wrong step."""
    kind, remedy = type(layer).__name__, "use nn.BatchNorm1d or nn.BatchNorm2d as torch makes them by default"
    if type(layer) in (nn.BatchNorm1d, nn.BatchNorm2d):
        if not layer.affine or not layer.track_running_stats or layer.momentum is None:
            raise UserError(f"{path} is a {kind} without weights, running statistics or momentum; {remedy}")
        return
    if isinstance(layer, (_BatchNorm, _LazyNormBase)) or (isinstance(layer, nn.Module) and _has_buffers(layer)):
        raise UserError(f"{path} is a {kind}, whose state this trainer does not keep equal on all processes; {remedy}")
    if isinstance(layer, (_DropoutNd, nn.RReLU)):
        raise UserError(
            f"{path} is a {kind}, which draws from torch's global generator: a resumed run would differ; remove it"
        )


def _has_buffers(layer: nn.Module) -> bool:
    return any(True for _ in layer.buffers(recurse=False))
