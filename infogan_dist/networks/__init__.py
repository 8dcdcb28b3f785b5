"""Builds G, FE, D and Q by family and initialises them from the seed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from types import ModuleType

import torch
from torch import Tensor, nn

from infogan_dist.config.schema import Config
from infogan_dist.latents import LatentSpec
from infogan_dist.networks.batch_norm import BatchNorm
from infogan_dist.networks.class_prior import add_class_priors
from infogan_dist.networks.convert import Converted, convert
from infogan_dist.networks.joint import with_joint_scores
from infogan_dist.networks.spectral_norm import normalise_spectrally
from infogan_dist.randomness import Stream
from infogan_dist.registry.families import FAMILIES

COMPILED_VARIANTS = 64  # of all networks together; a run has about 12
INITIAL_STD = 0.02  # Radford et al. 2016, section 4
FUNCTIONS = ("generator", "front_end", "discriminator", "recognition")  # that every family defines


@dataclass
class Networks:
    """Generator, averaged generator, shared front end, discriminator head and recognition head."""

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


def build_networks(config: Config) -> Networks:
    """All networks, float32 on the CPU, initialised from `config.seed`. Raises UserError if `convert` refuses a layer."""
    trained = {name: each.network for name, each in converted_networks(config).items()}
    for name, network in trained.items():
        initialise(network.to_empty(device="cpu"), config.seed, name, getattr(family_of(config), "initial_std", None))
    _add_spectral_norms(trained, config)
    add_class_priors(trained["G"], LatentSpec.from_config(config.latents))
    return Networks(G_ema=copy.deepcopy(trained["G"]).requires_grad_(False).eval(), **trained)


def networks_on_meta(config: Config) -> dict[str, nn.Module]:
    """The networks of a config by name, float32 on the meta device: shapes without memory for weights."""
    trained = {name: each.network for name, each in converted_networks(config).items()}
    with torch.device("meta"):
        _add_spectral_norms(trained, config)
        add_class_priors(trained["G"], LatentSpec.from_config(config.latents))
        return {**trained, "G_ema": copy.deepcopy(trained["G"])}


def family_of(config: Config) -> ModuleType:
    """The module of `networks.family`. Raises UserError if its plugin is broken."""
    name = config.networks.family
    module: ModuleType = FAMILIES.load(name, "module", ModuleType)
    for function in FUNCTIONS:
        if not callable(getattr(module, function, None)):
            raise FAMILIES.broken(name, f"{module.__name__} has no function {function}")
    return module


def converted_networks(config: Config) -> dict[str, Converted]:
    """G, FE, D and Q of a config on the meta device, converted, without spectral norms."""
    plain, networks, data = plain_networks(config), config.networks, config.data
    latent_dim, size = LatentSpec.from_config(config.latents).dim, data.image_size
    norm_Q = networks.norm_D if networks.norm_Q == "family" else networks.norm_Q

    def converted(name: str, input_shape: Sequence[int], norm: str) -> Converted:
        return convert(plain[name], input_shape, norm == "batch_local", name, 2 * networks.scored_together)

    with torch.device("meta"):
        FE = converted("FE", (data.channels, size, size), networks.norm_D)
        return {
            "G": converted("G", (latent_dim,), networks.norm_G),
            "FE": FE,
            "D": converted("D", FE.output_shape, networks.norm_D),
            "Q": converted("Q", FE.output_shape, norm_Q),
        }


def plain_networks(config: Config) -> dict[str, nn.Module]:
    """G, FE, D and Q of a config on the meta device, in plain torch as their family has them."""
    family, networks, data = family_of(config), config.networks, config.data
    spec, size = LatentSpec.from_config(config.latents), data.image_size
    images = (data.channels, size, size)
    with torch.device("meta"):
        return {
            "G": family.generator(networks, spec.dim, data.channels, size),
            "FE": (FE := family.front_end(networks, data.channels, size)),
            "D": with_joint_scores(family.discriminator(networks, size), FE, images, networks),
            "Q": family.recognition(networks, spec.posterior_dim, size),
        }


def _add_spectral_norms(trained: dict[str, nn.Module], config: Config) -> None:
    if config.networks.norm_D == "spectral":
        for name in ("FE", "D"):
            normalise_spectrally(trained[name], Stream(config.seed, f"spectral vectors/{name}"))


def compile_networks(networks: Networks, config: Config) -> None:
    """Compile each network in place, according to `train.compile`. FE and D are not compiled if there is a gradient penalty,
    because torch.compile has no second derivative."""
    if not config.train.compile:
        return
    # The networks share one code object. Each is compiled for the D step, for the G step, and again when clustering starts.
    # Beyond torch's limit of 8 variants of a code object the others would run eagerly.
    dynamo = torch._dynamo.config
    dynamo.recompile_limit = max(dynamo.recompile_limit, COMPILED_VARIANTS)
    for network in (
        networks.G,
        networks.Q,
        *(() if config.objective.has_gradient_penalty else (networks.FE, networks.D)),
    ):
        network.compile(mode=config.train.compile, dynamic=False)


@torch.no_grad()
def initialise(
    network: nn.Module, seed: int, name: str, initial_std: Callable[[nn.Module, str, Tensor], float] | None = None
) -> None:
    """DCGAN's initial weights: N(0, 0.02), scales of norms N(1, 0.02), biases 0, running statistics mean 0 and variance 1. A weight
    depends only on the seed and its name. `initial_std` maps (network, path of a layer, weight) to another standard deviation."""
    for path, module in network.named_modules():
        if isinstance(module, BatchNorm):
            module.running_mean.zero_()
            module.running_var.fill_(1)
        for key, parameter in module.named_parameters(recurse=False):
            if key == "bias":
                parameter.zero_()
                continue
            stream = Stream(seed, f"initial weights/{name}.{path}.{key}")
            std = initial_std(network, path, parameter) if initial_std is not None else INITIAL_STD
            draws = stream.normal(torch.arange(len(parameter)), parameter[0].numel())
            centre = 1.0 if isinstance(module, (BatchNorm, nn.GroupNorm, nn.LayerNorm)) else 0.0
            parameter.copy_(draws.view(parameter.shape).mul(std).add(centre))
