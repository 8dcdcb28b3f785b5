"""What an importer hands back."""

from __future__ import annotations

from dataclasses import dataclass

from infogan_dist.sampling.pretrained import Pretrained


@dataclass(frozen=True)
class Imported:
    """A model in our form, and in one sentence what of the file it leaves out and why."""

    model: Pretrained
    left_out: str = ""
