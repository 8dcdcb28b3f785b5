"""What a metric hands back."""

from __future__ import annotations

from typing import Any

Metrics = dict[str, Any]
"""Numbers, or numbers by code, by the name they have in the JSON. What does not apply is absent."""


def flat(metrics: Metrics) -> dict[str, float]:
    """Only the numbers, `mutual_information/categorical_0` for those by code: a row of metrics.jsonl."""
    numbers: dict[str, float] = {}
    for key, value in metrics.items():
        below = value if isinstance(value, dict) else {}
        numbers |= {f"{key}/{name}": each for name, each in below.items() if isinstance(each, float)}
        numbers |= {key: value} if isinstance(value, float) else {}
    return numbers
