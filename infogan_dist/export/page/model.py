"""What the page is made from: G_ema, FE and Q of a checkpoint, and what is known of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from infogan_dist.checkpoints import store as checkpoints
from infogan_dist.checkpoints.manifest import Checkpoint
from infogan_dist.checkpoints.run_folder import read_metrics
from infogan_dist.config.schema import Config
from infogan_dist.data.sources import images_of, scored_split
from infogan_dist.errors import UserError
from infogan_dist.evaluation.code_names import CodeNames, names_of
from infogan_dist.evaluation.evaluated_model import Origin
from infogan_dist.latents import LatentSpec
from infogan_dist.networks.loading import load_network
from infogan_dist.registry.data_sets import DATA_SETS, DataSetRecord


@dataclass(frozen=True)
class Score:
    """A code error, a fraction, and the name of the images that it was measured on."""

    code_error: float
    images: str


@dataclass(frozen=True)
class Model:
    """Networks in evaluation mode on the CPU; `names` and `score` where there are any."""

    path: Path
    config: Config
    networks: dict[str, nn.Module]
    """G_ema, FE and Q."""
    images_seen: int
    images: int | None
    """The number of distinct images trained on; None where the checkpoint does not record it."""
    names: CodeNames | None
    score: Score | None

    @classmethod
    def load(cls, path: Path) -> Model:
        """From a run folder (its newest checkpoint that verifies) or one checkpoint folder.

        Raises UserError where `path` is neither, NoUsableCheckpoint where nothing there verifies.
        """
        if path.suffix == ".safetensors":
            raise UserError(f"{path} is an exported file; the page needs a run folder or a checkpoint folder")
        checkpoint = checkpoints.find(path)
        config, tensors = checkpoint.config, checkpoint.load("G_ema", "FE", "Q")
        try:
            networks = {name: load_network(name, config, tensors[name]) for name in tensors}
        except ValueError as error:
            raise UserError(f"{path} does not hold the weights its config describes: {error}") from error
        names = names_of(path)
        return cls(
            path=path,
            config=config,
            networks={name: network.eval().requires_grad_(False) for name, network in networks.items()},
            images_seen=checkpoint.images_seen,
            images=checkpoint.images.images if checkpoint.images is not None else None,
            names=names,
            score=_score(checkpoint, names),
        )

    @property
    def spec(self) -> LatentSpec:
        return LatentSpec.from_config(self.config.latents)

    @property
    def record(self) -> DataSetRecord:
        return DATA_SETS[self.config.data.name]

    @property
    def parameters(self) -> int:
        return sum(each.numel() for network in self.networks.values() for each in network.parameters())

    @property
    def code(self) -> int:
        """The number of the categorical code that has names; else of the first."""
        known = self.spec.categorical_names
        return known.index(self.names.code) if self.names is not None and self.names.code in known else 0

    def class_names(self) -> dict[int, str]:
        """The name of each class of `code`; a class without one is left out."""
        if self.names is None or self.names.code not in self.spec.categorical_names:
            return {}
        width = self.spec.categorical[self.code]
        classes = DATA_SETS[self.names.data].classes
        matched = dict(enumerate(self.names.of(torch.arange(width))))
        if self.names.names:
            return {k: name for k, name in matched.items() if str(k) in self.names.names}
        return {k: classes[int(each)] for k, each in matched.items() if each.isdecimal() and int(each) < len(classes)}


def _score(checkpoint: Checkpoint, names: CodeNames | None) -> Score | None:
    """The code error that the names came with, or the newest that training measured of this checkpoint."""
    data = checkpoint.config.data
    if names is not None:
        here = names.data == data.name
        split = images_of(scored_split(data)) if here else "test images"
        return Score(names.code_error, f"{split} of {names.data}")
    run = Origin(checkpoint.path, checkpoint.step, checkpoint.images_seen).run
    rows: list[dict[str, Any]] = read_metrics(run / "metrics.jsonl") if run is not None else []
    for row in reversed(rows):
        if row["kind"] == "evaluate" and row["step"] == checkpoint.step and row.get("code_error") is not None:
            return Score(row["code_error"], f"{images_of(scored_split(data))} of {data.name}")
    return None
