"""The floating-point operations of a step, and the matrix products of its layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
Product = tuple[int, int, int]  # [rows, inner] @ [inner, columns]


@dataclass(frozen=True)
class Work:
    """One step of one process: the operations of its matrix products and convolutions, a multiplication and an addition counted as
    two; and the matrix products of its layers' forward passes, the largest first."""

    operations: int
    products: tuple[Product, ...]


def work_of(step: Callable[[], object], networks: Iterable[nn.Module]) -> Work:
    """The work of `step`, which is run once with `networks`. Compiled networks run in eager mode."""
    products: set[Product] = set()

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        products.add(product_of(module, inputs[0], output))

    layers = [module for network in networks for module in network.modules() if isinstance(module, LAYERS)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        # a compiled region hides its operations from the counter
        with torch.compiler.set_stance("force_eager"), FlopCounterMode(display=False) as counter:
            step()
    finally:
        for hook in hooks:
            hook.remove()
    return Work(counter.get_total_flops(), tuple(sorted(products, key=operations_of, reverse=True)))


def product_of(layer: Any, x: Tensor, y: Tensor) -> Product:
    """A layer's forward pass as one matrix product, with a row for each position of its kernel."""
    if isinstance(layer, nn.ConvTranspose2d):
        return x.numel() // layer.in_channels, layer.in_channels, layer.weight[0].numel()
    return y.numel() // len(layer.weight), layer.weight[0].numel(), len(layer.weight)


def operations_of(product: Product) -> int:
    rows, inner, columns = product
    return 2 * rows * inner * columns
