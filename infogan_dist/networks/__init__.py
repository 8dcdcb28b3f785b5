"""G, FE, D and Q: the units of state, built by family and initialised from the seed."""

from __future__ import annotations

import copy
from dataclasses import dataclass, fields

import torch
from torch import nn

from infogan_dist.config import Config, DataConfig, NetworksConfig
from infogan_dist.latents import LatentSpec
from infogan_dist.networks import dcgan, paper28
from infogan_dist.networks.layers import BatchNorm, normalise_spectrally
from infogan_dist.randomness import Stream

FAMILIES = {"paper28": paper28, "dcgan": dcgan}
COMPILED_VARIANTS = 64  # of all networks together; a run has about a dozen
INITIAL_DEVIATION = 0.02  # Radford et al. 2016, section 4


@dataclass
class Networks:
    """Generator, its running average, shared front end, discriminator head and recognition head."""

    G: nn.Module
    G_ema: nn.Module
    FE: nn.Module
    D: nn.Module
    Q: nn.Module

    def named(self) -> dict[str, nn.Module]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def to(self, device: torch.device, dtype: torch.dtype) -> Networks:
        for network in self.named().values():
            network.to(device=device, dtype=dtype)
        return self


def build_generator(networks: NetworksConfig, data: DataConfig, spec: LatentSpec) -> nn.Module:
    """G without its initial weights, for loading."""
    G: nn.Module = FAMILIES[networks.family].generator(networks, spec.dim, data.channels, data.image_size)
    return G


def build_networks(config: Config) -> Networks:
    """All networks, float32 on the CPU, with the initial weights that `config.seed` determines."""
    family, size = FAMILIES[config.networks.family], config.data.image_size
    spec = LatentSpec.from_config(config.latents)
    G = build_generator(config.networks, config.data, spec)
    FE = family.front_end(config.networks, config.data.channels, size)
    D = family.discriminator(config.networks, size)
    Q = family.recognition(config.networks, spec.posterior_dim, size)
    for name, network in {"G": G, "FE": FE, "D": D, "Q": Q}.items():
        initialise(network, config.seed, name)
    if config.networks.norm_D == "spectral":
        for name, network in {"FE": FE, "D": D}.items():
            normalise_spectrally(network, Stream(config.seed, f"spectral vectors/{name}"))
    return Networks(G, copy.deepcopy(G).requires_grad_(False).eval(), FE, D, Q)


def compile_networks(networks: Networks, config: Config) -> None:
    """Compile the forward of each network as `train.compile` says, in place. FE and D stay as they are where their slopes
    are penalised: torch.compile has no second derivative."""
    if not config.train.compile:
        return
    # The networks share one code object, and each is compiled once for D's step, once for G's and again where the clustering
    # sets in. At torch's limit of 8 variants of a code object the others would run eagerly.
    dynamo = torch._dynamo.config
    dynamo.recompile_limit = max(dynamo.recompile_limit, COMPILED_VARIANTS)
    for network in (
        networks.G,
        networks.Q,
        *(() if config.objective.has_gradient_penalty else (networks.FE, networks.D)),
    ):
        network.compile(mode=config.train.compile, dynamic=False)


@torch.no_grad()
def initialise(network: nn.Module, seed: int, name: str) -> None:
    """DCGAN's initial weights: N(0, 0.02), norms' scales N(1, 0.02), biases 0; each a function of seed and name alone."""
    for path, module in network.named_modules():
        for key, parameter in module.named_parameters(recurse=False):
            if key == "bias":
                parameter.zero_()
                continue
            stream = Stream(seed, f"initial weights/{name}.{path}.{key}")
            draws = stream.normal(torch.arange(len(parameter)), parameter[0].numel())
            centre = 1.0 if isinstance(module, BatchNorm) else 0.0
            parameter.copy_(draws.view(parameter.shape).mul(INITIAL_DEVIATION).add(centre))
