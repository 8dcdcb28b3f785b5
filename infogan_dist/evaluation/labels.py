"""Reads labels and factors. Only `evaluation` may import it (tests/evaluation/test_label_firewall.py)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from infogan_dist.config.model import DataConfig
from infogan_dist.data import mnist_mini, scenes, sprites
from infogan_dist.data.mnist_variants import base_of, imbalanced_indexes, stacked_indexes
from infogan_dist.data.sources import ImageSource, file_split, open_images, part_of
from infogan_dist.data.torchvision_sets import open_torchvision
from infogan_dist.errors import UserError
from infogan_dist.evaluation.metrics.disentanglement import Variables
from infogan_dist.registry.data_sets import DATA_SETS


@dataclass(frozen=True)
class LabelledImages:
    """Images and their labels, int64 [N]: class numbers of the data set, in the order of `source`."""

    source: ImageSource
    labels: Tensor


def class_names(data: DataConfig) -> tuple[str, ...]:
    """The name of each class, by label; empty for data without labels."""
    record = DATA_SETS[data.name]
    if not record.read_classes:
        return record.classes
    names: tuple[str, ...] = DATA_SETS.load(data.name, "read_classes", Callable)(data)
    return names


def open_labelled(data: DataConfig, split: str) -> LabelledImages:
    """The `train` or `test` images with their labels. Raises UserError where there are no labels or they do not fit the images."""
    classes = len(class_names(data))
    if not classes:
        names = ", ".join(name for name, record in DATA_SETS.built_in.items() if record.classes)
        raise UserError(f"data.name = {data.name} has no labels; use one of {names}")
    labels: Tensor = DATA_SETS.load(data.name, "read_labels", Callable)(data, file_split(data, split))
    source, part = open_images(data, split), part_of(data, split, len(labels))
    if len(source) != (len(labels) if part is None else len(part)) or not bool(
        ((labels >= 0) & (labels < classes)).all()
    ):
        remedy = "remove its files to download them again" if DATA_SETS[data.name].torchvision else "correct them"
        raise UserError(f"the labels of {data.name} do not fit its images; {remedy}")
    return LabelledImages(source, (labels if part is None else labels[part]).long())


def mnist_mini_labels(data: DataConfig, split: str) -> Tensor:
    return torch.from_numpy(mnist_mini.load(split)[1])


def torchvision_labels(data: DataConfig, split: str) -> Tensor:
    return torch.as_tensor(open_torchvision(data, split).targets)


def imbalanced_labels(data: DataConfig, split: str) -> Tensor:
    labels = open_labelled(base_of(data), split).labels
    return labels[imbalanced_indexes(data, len(labels))] if split == "train" else labels


def svhn_labels(data: DataConfig, split: str) -> Tensor:
    """The digits 0 to 9; torchvision renumbers the file's 10."""
    return torch.from_numpy(open_torchvision(data, split).labels)


@dataclass(frozen=True)
class Factors:
    """The factors that images were drawn from, with their names."""

    names: tuple[str, ...]
    variables: Variables


def known_factors(data: DataConfig, split: str, indexes: Tensor) -> Factors | None:
    """The factors of the `train` or `test` images at `indexes`; None where they are not known."""
    names = DATA_SETS[data.name].factors
    if not names:
        return None
    every: Variables = DATA_SETS.load(data.name, "read_factors", Callable)(data, file_split(data, split))
    part = part_of(data, split, len(every.values))
    return Factors(names, Variables(every.values[indexes if part is None else part[indexes]], every.discrete))


def sprite_factors(data: DataConfig, split: str) -> Variables:
    values = sprites.factors_at(split, torch.arange(sprites.COUNT[split]))
    return Variables(values, tuple(name == "shape" for name in DATA_SETS["sprites"].factors))


def scene_factors(data: DataConfig, split: str) -> Variables:
    values = scenes.factors_at(split, torch.arange(scenes.COUNT[split]))
    return Variables(values, tuple(name not in ("scale", "viewpoint") for name in DATA_SETS["scenes"].factors))


def stacked_factors(data: DataConfig, split: str) -> Variables:
    """The digit in the red, green and blue channel."""
    labels = open_labelled(base_of(data), split).labels
    return Variables(labels[stacked_indexes(split, len(labels))].double(), (True, True, True))
