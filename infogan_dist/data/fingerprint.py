"""Which images a run trains on, in few numbers: the hosts of a run compare them, and so does a resume."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt
from torch.nn.functional import adaptive_avg_pool2d

if TYPE_CHECKING:  # a checkpoint is read where torchvision, which opens images, is not installed
    from infogan_dist.data.sources import ImageSource

SAMPLED = 64  # images, evenly spaced in the set
SIDE = 2  # pixels of a thumbnail
TOLERANCE = 2  # grey levels of a thumbnail's pixel: resizing and JPEG decoding round otherwise on another machine
_THUMBNAIL = SIDE * SIDE  # bytes


class Fingerprint(BaseModel):
    """The number of images of a set, and a sample of them. A change outside the sample is not seen unless the number changes."""

    model_config = ConfigDict(strict=True, frozen=True)
    images: NonNegativeInt
    checksum: Annotated[str, Field(max_length=64)]
    """Of the sampled images' bits: sha256, its first 16 hexadecimal digits."""
    thumbnails: Annotated[str, Field(pattern=r"^([0-9a-f]{2})*$", max_length=2 * _THUMBNAIL * SAMPLED)]
    """The sampled images in grey at SIDE x SIDE pixels, uint8, in hexadecimal."""

    def difference(self, found: Fingerprint) -> str | None:
        """What differs between the images of this fingerprint and those `found`, in words; None where nothing does."""
        if self.images != found.images:
            return f"{self.images:,} images then, {found.images:,} now"
        if self.checksum == found.checksum:
            return None
        then, now = (bytes.fromhex(each.thumbnails) for each in (self, found))
        if len(then) != len(now):
            return "another sample of images"
        far = [abs(a - b) > TOLERANCE for a, b in zip(then, now, strict=True)]
        changed = sum(any(far[start : start + _THUMBNAIL]) for start in range(0, len(far), _THUMBNAIL))
        return f"{changed} of {len(far) // _THUMBNAIL} sampled images differ" if changed else None


def fingerprint(source: ImageSource) -> Fingerprint:
    """The fingerprint of a source; reads at most SAMPLED images. Raises UserError where one of them cannot be read."""
    sample = source.read(torch.linspace(0, len(source) - 1, min(len(source), SAMPLED)).long()).contiguous()
    small = adaptive_avg_pool2d(sample.double().mean(1, keepdim=True), SIDE).round().to(torch.uint8)
    return Fingerprint(
        images=len(source),
        checksum=hashlib.sha256(sample.numpy().tobytes()).hexdigest()[:16],
        thumbnails=small.numpy().tobytes().hex(),
    )
