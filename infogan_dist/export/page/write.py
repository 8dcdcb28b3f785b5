"""The page as files: one HTML file, or the folder of a static Hugging Face Space."""

from __future__ import annotations

import json
from pathlib import Path

from infogan_dist.checkpoints import store as checkpoints
from infogan_dist.errors import UserError
from infogan_dist.export.page.model import Model
from infogan_dist.export.page.words import words
from infogan_dist.files import atomic_write
from infogan_dist.sampling.outputs import check_file

SPACE_FILES = {"index.html", "README.md"}
OF_GIT = {".git", ".gitattributes"}  # a Space is a git repository


def check_html(path: Path) -> None:
    """Raises UserError where a page cannot be written to `path`; writes nothing."""
    check_file(path, (".html", ".htm"), "--html")


def check_space(folder: Path) -> None:
    """Raises UserError where `folder` holds anything but a Space that was written before."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--space {folder} exists and is not a folder; choose another name")
    if folder.is_dir():
        others = sorted({path.name for path in folder.iterdir()} - SPACE_FILES - OF_GIT)
        if others:
            raise UserError(f"--space {folder} holds {others[0]}; choose an empty folder, or a clone of the Space")
    holder = checkpoints.holder(folder)
    if holder is not None and checkpoints.is_checkpoint(holder):
        raise UserError(f"--space {folder} is inside the checkpoint {holder}; choose a path outside it")


def write_html(page: str, path: Path) -> None:
    with atomic_write(path) as partial:
        partial.write_text(page, encoding="utf-8")


def write_space(page: str, model: Model, folder: Path) -> None:
    """index.html, and README.md with the metadata that makes the folder a static Space."""
    folder.mkdir(parents=True, exist_ok=True)
    write_html(page, folder / "index.html")
    with atomic_write(folder / "README.md") as partial:
        partial.write_text(_card(model), encoding="utf-8")


def _card(model: Model) -> str:
    said = words(model)
    return f"""---
title: {json.dumps(said["invitation"].removesuffix("."))}
sdk: static
app_file: index.html
pinned: false
short_description: {json.dumps(said["claim"])}
tags: [infogan, gan]
---

# {said["invitation"]} {said["claim"]}

{said["lead"]} Everything runs in the browser; nothing is sent anywhere.

{said["facts"]}
"""
