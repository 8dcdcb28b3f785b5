"""What training prints of its metrics: a few on the progress bar, under short names, and the last evaluation at the end."""

from __future__ import annotations

from infogan_dist.config.model import DataConfig
from infogan_dist.data.sources import images_of, scored_split

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


def headline(figures: dict[str, float], data: DataConfig) -> tuple[str, str]:
    """The name and the text of the line that training prints of its last evaluation."""
    scored = f"the {images_of(scored_split(data))}"
    if "code_error" in figures:
        return "code error", f"{figures['code_error']:.2%} of {scored}"
    return "evaluated", f"{scored} of {data.name}, without labels"
