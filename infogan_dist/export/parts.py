"""G, and FE with Q, each as one network in plain torch: what other runtimes are given."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from infogan_dist.export.model import Model
from infogan_dist.latents import LatentSpec
from infogan_dist.networks.plain import plain_network
from infogan_dist.randomness import Stream
from infogan_dist.sampling.pretrained import HEADER, metadata, stored_as


@dataclass(frozen=True)
class Part:
    """A network with one input and one output, both float32 with a batch dimension of any size. `example` gives inputs, [count, ...]."""

    network: nn.Module
    input_name: str
    output_name: str
    example: Callable[[int], Tensor]
    metadata: dict[str, str]


class StoredAs(nn.Module):
    """A network that keeps its weights in less than float32 and computes in float32."""

    def __init__(self, network: nn.Module, dtype: torch.dtype):
        super().__init__()
        stored_as(dict(network.state_dict()), dtype)
        self.network = network.to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        named = [*self.network.named_parameters(), *self.network.named_buffers()]
        y: Tensor = torch.func.functional_call(self.network, {name: tensor.float() for name, tensor in named}, (x,))
        return y


def parts(model: Model, out: Path, dtype: torch.dtype) -> dict[Path, Part]:
    """The parts of a model by the file that each goes to: G to `out`, and FE with Q to NAME-recognizer beside it.

    Their metadata hold what every export says, and the meaning of each column of latents and posterior. Raises UserError where a
    weight is too large for `dtype`.
    """
    G, spec = model.G, model.G.spec
    said = metadata(model.as_tensors())

    def latents(count: int) -> Tensor:
        return spec.vector(spec.draw(Stream(0, "export"), torch.arange(count)))

    generator = _stored(plain_network("G", G.network, G.config), dtype)
    columns = json.dumps(input_columns(spec))
    found = {
        out: Part(
            generator, "latents", "images", latents, said | {f"{HEADER}.networks": "G", f"{HEADER}.latents": columns}
        )
    }
    if model.Q is not None:
        FE, Q = (plain_network(name, network, G.config) for name, network in (("FE", model.Q.FE), ("Q", model.Q.Q)))
        recognizer = nn.Sequential(OrderedDict(FE=FE, Q=Q))
        columns = json.dumps(output_columns(spec))
        found[out.with_stem(f"{out.stem}-recognizer")] = Part(
            _stored(recognizer, dtype),
            "images",
            "posterior",
            lambda count: generator(latents(count)),
            said | {f"{HEADER}.networks": "FE,Q", f"{HEADER}.posterior": columns},
        )
    return found


def input_columns(spec: LatentSpec) -> list[dict[str, Any]]:
    """The columns of G's input from left to right: name, the first and the one after the last, and the values they take."""
    noise = {"uniform": "U(-1, 1)", "normal": "N(0, 1)"}
    widths = [
        *((f"noise_{number}", source.dim, noise[source.distribution]) for number, source in enumerate(spec.noise)),
        *((name, width, "one-hot") for name, width in zip(spec.categorical_names, spec.categorical, strict=True)),
        *((name, 1, "-1 to 1") for name in spec.continuous_names),
    ]
    return _columns(widths)


def output_columns(spec: LatentSpec) -> list[dict[str, Any]]:
    """The same of Q's output."""
    widths = [
        *((name, width, "logits") for name, width in zip(spec.categorical_names, spec.categorical, strict=True)),
        *((name, 1, kind) for kind in ("mean", "log-variance") for name in spec.continuous_names),
    ]
    return _columns(widths)


def _columns(widths: list[tuple[str, int, str]]) -> list[dict[str, Any]]:
    found, start = [], 0
    for name, width, values in widths:
        found.append({"name": name, "columns": [start, start + width], "values": values})
        start += width
    return found


def _stored(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    return (network if dtype == torch.float32 else StoredAs(network, dtype)).eval()
