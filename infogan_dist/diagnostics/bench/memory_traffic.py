"""The bytes that a step reads and writes beside its matrix products: Adam, the average of G, casts to 16 bits, and batch norms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from infogan_dist.diagnostics.bench.work import LAYERS
from infogan_dist.diagnostics.memory import bytes_of
from infogan_dist.networks.batch_norm import BatchNorm
from infogan_dist.training.train_state import TrainState

ADAM = 7  # tensors: reads the parameter, its gradient and two moments, writes the parameter and the moments
AVERAGE = 3  # reads G and G_ema, writes G_ema
NORM_FORWARD = 3  # reads the input for its statistics and again to normalise it, writes the output
NORM_BACKWARD = 5  # reads the input and the output's gradient, twice each, and writes the input's gradient


def memory_traffic(step: Callable[[], object], state: TrainState) -> dict[str, int]:
    """Least bytes of one step of one process by cause: `adam`, `average`, `casts`, `norms`. Runs `step` once.

    Each tensor counts in full at each read and write, as if no cache held it. Casts are those of weights under autocast, to 16 bits in
    the forward pass and of their gradients back.
    """
    networks = state.networks.named()
    average = networks.pop("G_ema")
    moved = {"adam": 0, "average": 0, "casts": 0, "norms": 0}

    def note_cast(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight = layer.weight
        if torch.is_autocast_enabled(weight.device.type) and output.dtype != weight.dtype:
            passes = 2 if weight.requires_grad else 1
            moved["casts"] += passes * weight.numel() * (weight.element_size() + output.element_size())

    def note_norm(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        passes = NORM_FORWARD + (NORM_BACKWARD if output.requires_grad else 0)
        moved["norms"] += passes * output.numel() * output.element_size()

    layers = [layer for network in networks.values() for layer in network.modules()]
    hooks = [layer.register_forward_hook(note_cast) for layer in layers if isinstance(layer, LAYERS)]
    hooks += [layer.register_forward_hook(note_norm) for layer in layers if isinstance(layer, BatchNorm)]
    try:
        with torch.compiler.set_stance("force_eager"):
            step()
    finally:
        for hook in hooks:
            hook.remove()
    trained = (parameter for network in networks.values() for parameter in network.parameters())
    return moved | {"adam": ADAM * bytes_of(trained), "average": AVERAGE * bytes_of(average.parameters())}
