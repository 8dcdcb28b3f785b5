"""Writes a commented config for a folder of images, from a first look at it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from infogan_dist.config.augmentation import HIDDEN
from infogan_dist.config.model import DataConfig
from infogan_dist.diagnostics.folder_look import FolderLook

DIGITS_SIDE = 28  # pixels: of paper28
DIGITS_LIMIT = 56  # median shorter side below which light ink on black is resized to DIGITS_SIDE
SMALL, LARGE = 32, 64  # pixels: of dcgan
DEFAULT_CLASSES, MOST_CLASSES = 10, 50
BATCH = 96  # divisible by 1, 2, 3, 4, 6 and 8 processes


@dataclass(frozen=True)
class Choices:
    """What a first look suggests, each with its reason for a comment in the config."""

    image_size: tuple[int, str]
    channels: tuple[int, str]
    classes: tuple[int, str]
    preset: str
    broken: int

    @classmethod
    def of(cls, look: FolderLook, root: str, classes: int | None, on_gpu: bool) -> Choices:
        """`classes` is the user's choice; None is one for each subfolder, or DEFAULT_CLASSES."""
        grey = DataConfig(name="folder", root=root, image_size=DIGITS_SIDE)
        digits = look.light_ink_on_black(grey)
        colour = (3, "coloured images were found") if look.coloured else (1, "no colour was found; 3 is colour")
        broken = len(look.files.broken)
        return cls(
            _image_size(look, digits, on_gpu),
            colour,
            _classes(look, classes),
            "digits" if digits else "objects",
            broken,
        )


def _image_size(look: FolderLook, digits: bool, on_gpu: bool) -> tuple[int, str]:
    side = look.shorter_side
    if digits and side < DIGITS_LIMIT:
        return DIGITS_SIDE, f"the files' median shorter side is {side}"
    if side >= LARGE and on_gpu:
        return LARGE, f"the files' median shorter side is {side}; dcgan also takes 32, 128 and 256"
    cost = "; 64 shows more detail and takes about 4 times as long" if side >= LARGE else ""
    return SMALL, f"the files' median shorter side is {side}{cost}"


def _classes(look: FolderLook, classes: int | None) -> tuple[int, str]:
    subfolders = len(look.subfolders)
    if classes is not None:
        return classes, "as chosen by --classes"
    if 2 <= subfolders <= MOST_CLASSES:
        return subfolders, "one class for each subfolder; only `evaluate` reads which image is in which subfolder"
    return DEFAULT_CLASSES, "the number of classes; set it to the number of kinds that you expect"


def first_config(choices: Choices, root: str, name: str, command: str) -> str:
    """The YAML text of a config that trains on the folder `root`, with run folder runs/`name`."""
    size, why_size = choices.image_size
    channels, why_channels = choices.channels
    classes, why_classes = choices.classes
    digits = size == DIGITS_SIDE
    family = "paper28" if digits else "dcgan"
    family_note = (
        "the InfoGAN paper's networks for 28 pixels" if digits else "the lab report's networks, for 32 to 256 pixels"
    )
    norm_Q = (
        ""
        if digits
        else "\n  norm_Q: batch # in our runs at 32 pixels a norm in Q lowered the code error from 12.3 to 1.6 %"
    )
    skip = (
        f"\n  skip_broken: true # {choices.broken} files cannot be decoded; the next file is read instead"
        if choices.broken
        else ""
    )
    neighbours, why_neighbours = (
        (0.5, "an image and a near one are of one class") if digits else (0, "pixel distances mean little here")
    )
    rate_D, information = (
        ("5e-4", "\n  lambda_categorical: 0.25 # at 1, images of a class are less varied") if digits else ("2e-4", "")
    )
    return f"""\
# Written by `{command}`. Every key: `infogan-dist config`.
output: runs/{name} # the run folder
data:
  name: folder
  root: {json.dumps(root, ensure_ascii=False)}
  image_size: {size} # {why_size}
  channels: {channels} # {why_channels}
  fit: crop # keep the middle square; pad keeps the full image, stretch distorts it{skip}
  held_out: 0.1 # share of the images that training does not see and `evaluate` scores
latents:
  noise: [{{dim: 54, distribution: uniform}}]
  categorical: [{classes}] # {why_classes}
  balanced: true
networks:
  family: {family} # {family_note}
  width: 32 # half the papers', for speed; 64 draws more detail{norm_Q}
objective: # Q predicts the codes from augmented fakes and clusters augmented reals; no label is used
  information_trains: trunk
  information_from: augmented{information}
  lambda_clustering: 1
  clustering_from: 0.083333
  clustering_in_full: 0.166667
  clustering_entropy_weight: 1.5 # for classes of about equal size; use 1 if they differ much
  neighbour_positives: {neighbours} # {why_neighbours}
augmentation:
  preset: {choices.preset} # a class cannot encode: {HIDDEN[choices.preset]}
optimizer:
  D: {{lr: {rate_D}, beta2: 0.99}}
  G: {{lr: 1e-3, beta2: 0.99}}
  Q: {{lr: 1e-3}}
schedule:
  kind: linear
  anneal_from: 0.38889
train:
  global_batch: {BATCH} # divisible by 1, 2, 3, 4, 6 and 8 processes
  steps: 1875 # {1875 * BATCH:,} images; more steps draw better images
  ema_half_life_images: 5000
sample:
  every: 375
checkpoint:
  every: 625
evaluate:
  every: 1875
log:
  every: 25
"""


def run_name(folder: Path) -> str:
    """A name for files from the name of a folder: lower case, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")[:64].strip("-") or "images"
