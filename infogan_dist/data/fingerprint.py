"""A fingerprint of the images of a run. The hosts of a run compare it, and so does a resume."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt
from torch.nn.functional import adaptive_avg_pool2d

if TYPE_CHECKING:  # a checkpoint is read where torchvision, which opens images, is not installed
    from infogan_dist.data.sources import ImageSource

SAMPLED = 64  # images, evenly spaced in the data set
SIDE = 2  # pixels of a thumbnail
TOLERANCE = 2  # grey levels of a thumbnail's pixel: resizing and JPEG decoding round differently on other machines
_THUMBNAIL = SIDE * SIDE  # bytes


class Fingerprint(BaseModel):
    """The number of images of a data set and a sample of them. A change outside the sample is detected only if the number changes."""

    model_config = ConfigDict(strict=True, frozen=True)
    images: NonNegativeInt
    checksum: Annotated[str, Field(max_length=64)]
    """The first 16 hexadecimal digits of the sha256 of the sampled images."""
    thumbnails: Annotated[str, Field(pattern=r"^([0-9a-f]{2})*$", max_length=2 * _THUMBNAIL * SAMPLED)]
    """The sampled images in grey, SIDE x SIDE pixels, uint8, in hexadecimal."""

    def difference(self, found: Fingerprint) -> str | None:
        """How the images `found` now differ from those of this fingerprint, for a message; None if they are the same."""
        if self.images != found.images:
            return f"{self.images:,} images then, {found.images:,} now"
        if self.checksum == found.checksum:
            return None
        then, now = (bytes.fromhex(each.thumbnails) for each in (self, found))
        if len(then) != len(now):
            return "another sample of images"
        differs = [abs(a - b) > TOLERANCE for a, b in zip(then, now, strict=True)]
        changed = sum(any(differs[start : start + _THUMBNAIL]) for start in range(0, len(differs), _THUMBNAIL))
        return f"{changed} of {len(differs) // _THUMBNAIL} sampled images differ" if changed else None


def fingerprint(source: ImageSource) -> Fingerprint:
    """The fingerprint of a source. Reads at most SAMPLED images. Raises UserError if one of them cannot be read."""
    sample = source.read(torch.linspace(0, len(source) - 1, min(len(source), SAMPLED)).long()).contiguous()
    small = adaptive_avg_pool2d(sample.double().mean(1, keepdim=True), SIDE).round().to(torch.uint8)
    return Fingerprint(
        images=len(source),
        checksum=hashlib.sha256(sample.numpy().tobytes()).hexdigest()[:16],
        thumbnails=small.numpy().tobytes().hex(),
    )
