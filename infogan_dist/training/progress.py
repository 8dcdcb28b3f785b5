"""The few metrics that the progress bar shows, under short names."""

from __future__ import annotations

SHOWN = {  # on the progress bar, the codes' by name as well
    **{"loss/D": "D", "loss/G": "G", "score/real": "D(x)", "score/fake_before_G": "D(G)", "health/D_accuracy": "right"},
    **{"mi/": "I", "health/usage_entropy/": "H", "health/diversity": "std"},
}


def shown(numbers: dict[str, float]) -> dict[str, str]:
    """A few of the numbers under short names: `I` is L_I by code, `H` the entropy of each code's use on reals."""
    shown = {}
    for key, short in SHOWN.items():
        found = [
            f"{number:.2f}"
            for name, number in numbers.items()
            if name == key or (key[-1] == "/" and name.startswith(key))
        ]
        if found:
            shown[short] = "/".join(found)
    return shown
