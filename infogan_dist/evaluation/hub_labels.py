"""Labels of a data set of the Hugging Face `datasets` library: its one column of class labels. Only `evaluation` may import it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from infogan_dist.config.model import DataConfig
from infogan_dist.data.hub_dataset import rows_of, scan_dataset
from infogan_dist.errors import UserError, printable
from infogan_dist.evaluation.folder_labels import of_shown


def classes_of(data: DataConfig) -> tuple[str, ...]:
    """The names of the classes; empty if there is not exactly one column of class labels, or a row has no label."""
    rows = rows_of(data)
    column = _column(rows)
    if column is None or {-1, None} & set(rows.unique(column)):  # both mean that a label is missing
        return ()
    return tuple(map(printable, rows.features[column].names))


def labels_of(data: DataConfig, split: str) -> Tensor:
    """The label of every image, int64 [N]. With `data.skip_broken` a broken image has the label of the image that takes its place.

    Raises UserError if there is not exactly one column of class labels.
    """
    rows = rows_of(data)
    column = _column(rows)
    if column is None:
        raise UserError(f"data.root = {data.root} does not have exactly one column of class labels")
    return of_shown(torch.tensor(rows.select_columns([column])[:][column]), scan_dataset(data), data)


def _column(rows: Any) -> str | None:
    """The name of the only column of class labels; None if there are none or several."""
    from datasets import ClassLabel

    columns = [name for name, feature in rows.features.items() if isinstance(feature, ClassLabel)]
    return columns[0] if len(columns) == 1 else None
