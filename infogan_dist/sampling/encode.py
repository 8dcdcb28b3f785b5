"""A user's own images through Q: a table of their codes, and a contact sheet of each class."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from infogan_dist.data.file_index import FileIndex
from infogan_dist.data.folder import FolderSource, warn_of_broken
from infogan_dist.data.sources import scaled
from infogan_dist.errors import UserError
from infogan_dist.files import atomic_write
from infogan_dist.latents import LatentSpec
from infogan_dist.losses import CodePosterior
from infogan_dist.sampling.batches import batches_of
from infogan_dist.sampling.captions import Captions
from infogan_dist.sampling.generator import Generator
from infogan_dist.sampling.grids import Draw, to_uint8
from infogan_dist.sampling.recognizer import Recognizer
from infogan_dist.sampling.sheets import Sheet

DRAWN, SUREST, LEAST_SURE = 3, 6, 3  # images in a row of a contact sheet
MOST_CLASSES = 200  # of a contact sheet
NOTHING: tuple[None, str] = (None, "")
CELL = 84  # pixels a side of its images, at least: a file name fits below


@dataclass(frozen=True)
class Encoded:
    """The files of a folder by their names below it, and Q's posterior for each, float64 on the CPU."""

    names: Sequence[str]
    source: FolderSource
    posterior: CodePosterior


def encode(folder: Path, Q: Recognizer, map_batches: Callable[[list[Tensor], Draw], Tensor]) -> Encoded:
    """Q(c | x) of every image below a folder, read as training reads a folder. `map_batches` is a Group's.

    Raises UserError where there is no such folder, no image in it, or one that cannot be read.
    """
    if not folder.is_dir():
        raise UserError(f"--images {folder} is not a folder")
    files = FileIndex.scan(folder)
    if Q.config.data.skip_broken:
        files.check()
        if files.broken:
            warn_of_broken(files, "they are left out")
        files = files.decodable()
    if not files:
        raise UserError(f"--images {folder} holds no images")
    source = FolderSource(files, Q.config.data)
    outputs = map_batches(batches_of(len(files)), lambda ours: _output(Q, source.read(ours)))
    posterior = CodePosterior.from_output(outputs[: len(files)].cpu().double(), Q.spec, Q.config.objective)
    return Encoded(files.names, source, posterior)


def _output(Q: Recognizer, images: Tensor) -> Tensor:
    """The posterior of uint8 images in one table [B, spec.posterior_dim], which ranks can exchange."""
    posterior = Q.posterior(scaled(images))
    return torch.cat([*posterior.logits, posterior.mean, posterior.log_variance], dim=1)


def write_csv(encoded: Encoded, spec: LatentSpec, word: Callable[[str, int], str], out: Path) -> None:
    """A row for each file: the class of each categorical code with its probability and, where one is known, its word; the mean of
    each continuous code."""
    columns: dict[str, Sequence[object]] = {"file": encoded.names}
    for name, logits in zip(spec.categorical_names, encoded.posterior.logits, strict=True):
        probabilities, classes = logits.softmax(1).max(1)
        columns[name] = classes.tolist()
        columns[f"{name}_probability"] = [f"{each:.4f}" for each in probabilities.tolist()]
        words = [word(name, number) for number in classes.tolist()]
        columns |= {f"{name}_name": words} if any(words) else {}
    for name, means in zip(spec.continuous_names, encoded.posterior.mean.T.tolist(), strict=True):
        columns[name] = [f"{mean:.4f}" for mean in means]
    with (
        atomic_write(out) as partial,
        partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def check_sheet(spec: LatentSpec) -> None:
    """Raises UserError for a model without classes, or with too many for a sheet."""
    if not 0 < sum(spec.categorical) <= MOST_CLASSES:
        raise UserError(
            f"--sheet shows 1 to {MOST_CLASSES} classes, and this model has {sum(spec.categorical)}; drop it"
        )


def contact_sheet(
    encoded: Encoded, G: Generator, title: str, class_name: Callable[[str, int], str]
) -> tuple[Tensor, Sheet]:
    """A row for each class: what G draws for it, then the files in it that Q is surest of, then those it is least sure of.

    The images, uint8 [N, C, H, W], and their sheet. Raises UserError as `check_sheet` does.
    """
    spec = G.spec
    check_sheet(spec)
    tiles: list[tuple[Tensor | None, str]] = []
    rows = []
    for code, width, logits in zip(spec.categorical_names, spec.categorical, encoded.posterior.logits, strict=True):
        probabilities, classes = logits.softmax(1).max(1)
        for number in range(width):
            files = (classes == number).nonzero().flatten()
            files = files[probabilities[files].argsort(descending=True, stable=True)]
            tiles += [(image, "") for image in to_uint8(G.sample(DRAWN, seed=0, **{code: number}))]
            surest, least_sure = files[:SUREST].tolist(), files[SUREST:].flip(0)[:LEAST_SURE].tolist()
            for group, room in ((surest, SUREST), (least_sure, LEAST_SURE)):
                tiles += [NOTHING, *(_tile(encoded, file, probabilities[file].item()) for file in group)]
                tiles += [NOTHING] * (room - len(group))
            called = class_name(code, number) if len(spec.categorical) == 1 else f"{code} = {class_name(code, number)}"
            rows.append(f"{called}\n{len(files):,} image{'s' if len(files) != 1 else ''}")
    groups = (("drawn by G", DRAWN), ("surest", SUREST), ("least sure", LEAST_SURE))
    headings = [text for name, size in groups for text in (name, *[""] * size)][:-1]
    numbers = iter(range(len(tiles)))
    cells = [None if image is None else next(numbers) for image, _ in tiles]
    captions = Captions(title, rows=rows, columns=headings, cells=[text for _, text in tiles])
    return torch.stack([image for image, _ in tiles if image is not None]), Sheet(cells, len(headings), captions)


def _tile(encoded: Encoded, file: int, probability: float) -> tuple[Tensor, str]:
    """An image with its name and probability."""
    name = PurePosixPath(encoded.names[file]).with_suffix("")
    return encoded.source.read(torch.tensor([file]))[0], f"{name}\n{probability:.2%}"


def sheet_scale(image_size: int) -> int:
    """How many times the images of a contact sheet are enlarged."""
    return math.ceil(CELL / image_size)
