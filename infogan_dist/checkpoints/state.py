"""Converts the state of networks and optimizers to tensors by parameter name, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from infogan_dist.checkpoints.manifest import Checkpoint, State
from infogan_dist.config.schema import Config
from infogan_dist.errors import NoUsableCheckpoint
from infogan_dist.networks.loading import first_mismatch, first_shape_mismatch

ADAM_STATE = ("step", "exp_avg", "exp_avg_sq")  # torch's state of each parameter


def network_tensors(networks: dict[str, nn.Module]) -> State:
    """Weights and buffers by network."""
    return {name: dict(network.state_dict()) for name, network in networks.items()}


def optimizer_tensors(optimizer: Optimizer, owned: dict[str, nn.Module]) -> dict[str, Tensor]:
    """Adam's state by parameter name: `FE.down.weight/exp_avg`."""
    return {
        f"{name}/{key}": value
        for name, parameter in _named_parameters(owned)
        for key, value in optimizer.state[parameter].items()
    }


def restore_optimizer(optimizer: Optimizer, owned: dict[str, nn.Module], tensors: dict[str, Tensor]) -> None:
    """Load the result of `optimizer_tensors`, in each parameter's memory layout. Learning rates are not loaded.

    Raises NoUsableCheckpoint if the state of a parameter is missing or has another shape or dtype.
    """
    names = {parameter: name for name, parameter in _named_parameters(owned)}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    count = torch.empty((), device="meta", dtype=torch.float32)  # Adam's step
    expected = {f"{names[p]}/{key}": p if key != "step" else count for p in parameters for key in ADAM_STATE}
    check_match(tensors, expected, "the optimizer")
    if optimizer.state:  # in place, because a recorded CUDA graph uses these tensors
        with torch.no_grad():
            for parameter in parameters:
                for key in ADAM_STATE:
                    optimizer.state[parameter][key].copy_(tensors[f"{names[parameter]}/{key}"])
        return
    state = {
        number: {key: _with_layout_of(parameter, tensors[f"{names[parameter]}/{key}"]) for key in ADAM_STATE}
        for number, parameter in enumerate(parameters)
    }
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def restore_networks(networks: dict[str, nn.Module], state: State) -> None:
    """Load the result of `network_tensors`. Raises NoUsableCheckpoint if a tensor is missing, unexpected, or of another shape or
    dtype."""
    for name, network in networks.items():
        check_match(state.get(name, {}), network.state_dict(), name)
        network.load_state_dict(state[name])


def check_match(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], what: str) -> None:
    """Raises NoUsableCheckpoint unless `tensors` have exactly the names, shapes and dtypes of `expected`."""
    mismatch = first_mismatch(tensors, expected)
    if mismatch is not None:
        raise NoUsableCheckpoint(f"{what} {mismatch}")


def check_described(checkpoint: Checkpoint, config: Config) -> None:
    """Raises NoUsableCheckpoint if the checkpoint's shapes do not match `config`. Call it before memory is allocated for networks."""
    files = checkpoint.manifest["files"]
    shapes = {Path(name).stem: recorded["shapes"] for name, recorded in files.items()}
    mismatch = first_shape_mismatch(shapes, config)
    if mismatch is not None:
        raise NoUsableCheckpoint(f"{checkpoint.path} belongs to another network: {mismatch}")


def _with_layout_of(parameter: Tensor, value: Tensor) -> Tensor:
    """`value` with the strides of `parameter`. Fused Adam is silently wrong if the strides of weights and state differ."""
    if value.shape != parameter.shape:
        return value  # the step count
    return torch.empty_like(parameter, memory_format=torch.preserve_format).copy_(value)


def _named_parameters(owned: dict[str, nn.Module]) -> Iterator[tuple[str, nn.Parameter]]:
    for network, module in owned.items():
        for name, parameter in module.named_parameters():
            yield f"{network}.{name}", parameter
