"""The type of a metric's result."""

from __future__ import annotations

from typing import Any

Metrics = dict[str, Any]
"""Values by JSON key: numbers, or numbers by code. A key that does not apply is absent."""


def flat(metrics: Metrics) -> dict[str, float]:
    """The floats of `metrics`, those by code under keys such as `mutual_information/categorical_0`: a row of metrics.jsonl."""
    numbers: dict[str, float] = {}
    for key, value in metrics.items():
        below = value if isinstance(value, dict) else {}
        numbers |= {f"{key}/{name}": each for name, each in below.items() if isinstance(each, float)}
        numbers |= {key: value} if isinstance(value, float) else {}
    return numbers
