"""What the HTML pages of this folder share: their base style, and the hash by which a policy admits a block."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files


def base_style() -> str:
    """Colours for light and dark, text and boxes, as CSS."""
    return files("infogan_dist.export").joinpath("assets", "base.css").read_text(encoding="utf-8")


def policy_hash(text: str) -> str:
    """The source expression of a Content-Security-Policy that admits a style or script block of exactly this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
