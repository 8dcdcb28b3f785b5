"""What ports of the paper's MNIST experiment share: G of our family paper28 from one of convolutions that ends in a sigmoid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from infogan_dist.config.reading import parse_config
from infogan_dist.config.schema import Config
from infogan_dist.errors import UserError
from infogan_dist.networks.loading import first_misfit

LATENTS, HIDDEN, WIDTH = 74, 1024, 64
WEIGHTS = {  # by the layer that is ours: the shapes of the ports' transposed convolutions, the first of a map of one pixel
    "lift": (LATENTS, HIDDEN, 1, 1),
    "spread": (HIDDEN, 2 * WIDTH, 7, 7),
    "up": (2 * WIDTH, WIDTH, 4, 4),
    "to_image": (WIDTH, 1, 4, 4),
}
NORMS = {"lift_norm": HIDDEN, "spread_norm": 2 * WIDTH, "up_norm": WIDTH}
OF_NORM = ("weight", "bias", "running_mean", "running_var")
FE_LEFT_OUT = (
    "FE, D and Q are left out: they were trained on images in [0, 1], whose zero padding is black and here would be grey, "
    "so no weights give the same numbers"
)


def paper28_config(data: str, noise: Literal["uniform", "normal"]) -> Config:
    """The config whose G takes what the ports' takes: 62 dimensions of noise, ten classes, two continuous codes."""
    values: dict[str, Any] = {
        "output": "exported",
        "data": {"name": data},
        "latents": {"noise": [{"dim": 62, "distribution": noise}], "categorical": [10], "continuous": 2},
        "networks": {"family": "paper28", "width": WIDTH},
    }
    return parse_config(values)


def paper28_generator(tensors: Mapping[str, Tensor], theirs: Mapping[str, str], source: str) -> dict[str, Tensor]:
    """The tensors of our G from a port's; `theirs` are the port's names of our layers.

    Its image x in [0, 1] is 2 x - 1 here, from halved weights: 2 sigmoid(a) - 1 = tanh(a / 2). Raises UserError where a tensor is
    missing, left over or of another shape.
    """
    shapes: dict[str, tuple[int, ...]] = {f"{theirs[layer]}.weight": shape for layer, shape in WEIGHTS.items()}
    shapes |= {f"{theirs[norm]}.{key}": (size,) for norm, size in NORMS.items() for key in OF_NORM}
    found = {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}
    misfit = first_misfit(found, {name: torch.empty(shape, device="meta") for name, shape in shapes.items()})
    if misfit is not None:
        raise UserError(f"{source} is not the generator of this port: it {misfit}")
    lift, spread, up, to_image = (found[f"{theirs[layer]}.weight"] for layer in WEIGHTS)
    return {
        "lift.weight": lift[:, :, 0, 0].T,
        "spread.weight": spread.permute(2, 3, 1, 0).reshape(-1, HIDDEN),  # rows in H, W, C order
        "up.weight": up,
        "to_image.weight": to_image / 2,
        "to_image.bias": torch.zeros(1),
        **{f"{norm}.{key}": found[f"{theirs[norm]}.{key}"] for norm in NORMS for key in OF_NORM},
    }
