"""The sentences of the page that follow from the model and its data set's record."""

from __future__ import annotations

import infogan_dist
from infogan_dist.export.page.model import Model

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
PEN = 2.6 / 28  # the same as in assets/ink.js


def words(model: Model) -> dict[str, str]:
    """The texts of page.html by the names of their places, plain text."""
    record, noun = model.record, model.record.noun
    invitation = f"{'Draw' if record.drawn_by_hand else 'Drop'} {_article(noun)} {noun}."
    return {
        "invitation": invitation,
        "claim": "This network never saw a label.",
        "lead": _lead(model),
        "noun": noun,
        "board_hint": "Draw here" if record.drawn_by_hand else f"Drop {_article(noun)} {noun} here",
        "board_how": "or drop or open an image" if record.drawn_by_hand else "or open or paste one",
        "preprocessing": _preprocessing(model),
        "names": _names(model),
        "facts": _facts(model),
        "sameness": _sameness(model),
        "made_with": f"Made with infogan_dist {infogan_dist.__version__}.",
    }


def _lead(model: Model) -> str:
    latents, noun = model.config.latents, model.record.noun
    many = f"{model.images:,} {noun}s" if model.images is not None else f"{noun}s"
    act = "Draw one" if model.record.drawn_by_hand else "Drop one"
    if not latents.categorical:
        return (
            f"It found {_counted(latents.continuous, 'way')} in which {many} differ, by itself. {act}: the "
            "network Q measures yours, and the network G draws it again."
        )
    return (
        f"It sorted {many} into {_counted(latents.categorical[model.code], 'class')} by itself. {act}: the network Q "
        "says which class yours belongs to, and the network G draws an image of every class."
    )


def _preprocessing(model: Model) -> str:
    data, record = model.config.data, model.record
    size = f"{data.image_size} by {data.image_size} pixels"
    if record.ink_box is None or data.channels == 3:
        return f"The square in the middle of an image, scaled to {size}."
    box = round(record.ink_box * data.image_size)
    placed = f"{size}: the ink is scaled to fit {box}, and its centre of mass is centred."
    if record.drawn_by_hand:
        placed += f" Strokes are {PEN * data.image_size:.1f} pixels wide."
    return f"{placed} Dark ink on light paper is inverted."


def _names(model: Model) -> str:
    if not model.spec.categorical:
        return ""
    said = "Q always chooses one of its classes. It knows them by number; "
    if model.names is None:
        return f"{said}nobody has named them."
    return f"{said}the names came afterwards, from labels of {model.names.data} that training never saw."


def _facts(model: Model) -> str:
    data, noun = model.config.data, model.record.noun
    many = f"{model.images:,} {noun}s" if model.images is not None else f"{noun}s"
    many += "" if model.record.needs_root else f" of {data.name}"
    said = (
        f"InfoGAN (Chen et al. 2016) with {model.parameters / 1e6:.1f} million weights in G, FE and Q, trained on {many} without "
        f"labels: {model.images_seen:,} images seen."
    )
    if model.score is None:
        return said
    return (
        f"{said} Scored afterwards, with labels: {100 * model.score.code_error:.3g} % of the {model.score.images} are in another "
        "class than the one matched to their label."
    )


def _sameness(model: Model) -> str:
    if all(source.distribution == "uniform" for source in model.config.latents.noise):
        return (
            "The same seed and codes give the same z and c to the last bit, and the same pixels within one grey level."
        )
    return "The same seed and codes give the same z and c to rounding, and the same pixels within a grey level or two."


def _counted(number: int, noun: str) -> str:
    said = _NUMBERS[number] if number < len(_NUMBERS) else f"{number:,}"
    return f"{said} {noun}" if number == 1 else f"{said} {noun}{'es' if noun.endswith('s') else 's'}"


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"
