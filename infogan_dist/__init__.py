"""InfoGAN (Chen et al. 2016) trained on one CPU, one GPU or many machines, with latent codes that are useful and proven."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infogan_dist.api import edit, evaluate, train
    from infogan_dist.latents import LatentSpec
    from infogan_dist.sampling.generator import Generator
    from infogan_dist.sampling.recognizer import Recognizer

__version__ = "0.2.0"
__all__ = ["Generator", "LatentSpec", "Recognizer", "__version__", "edit", "evaluate", "train"]

_MODULES = {
    "Generator": "infogan_dist.sampling.generator",
    "LatentSpec": "infogan_dist.latents",
    "Recognizer": "infogan_dist.sampling.recognizer",
    "edit": "infogan_dist.api",
    "evaluate": "infogan_dist.api",
    "train": "infogan_dist.api",
}


def __getattr__(name: str) -> Any:
    """Import what needs torch only when it is asked for, so that the config and the command line answer at once."""
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
