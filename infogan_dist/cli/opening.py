"""What commands that draw have in common: the generator of CHECKPOINT, the codes that options hold, and words for captions."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from infogan_dist.cli.arguments import setting
from infogan_dist.evaluation.code_names import held_by, names_in
from infogan_dist.latents import Codes, CodeValue, LatentSpec
from infogan_dist.sampling.generator import Generator

MOST_WORDS = 4  # of a list of values, in a title


@dataclass(frozen=True)
class ClassWords:
    """What each class of one code draws, as far as it is known: `digit 7`."""

    code: str = ""
    by_class: dict[int, str] | None = None

    def of(self, code: str, number: int) -> str:
        """The word for a class; empty where none is known."""
        return (self.by_class or {}).get(number, "") if code == self.code else ""

    def name(self, code: str, number: int) -> str:
        """The number of a class with its word: `3 (digit 7)`."""
        word = self.of(code, number)
        return f"{number} ({word})" if word else str(number)


@dataclass(frozen=True)
class Opened:
    """The generator, the codes held by `--set` and `--class`, and the words for its classes."""

    G: Generator
    held: dict[str, CodeValue]
    words: ClassWords
    origin: str
    """The run and step, or the file, for titles."""

    def title(self, *facts: str) -> str:
        """The title of a picture: where it comes from, these facts, and the codes that are held."""
        return ", ".join((self.origin, *facts, *(self._in_words(name, value) for name, value in self.held.items())))

    def codes_in_words(self, codes: Codes, names: Iterable[str]) -> str:
        """The values of the named codes of one image, Codes of [1], a line each."""
        spec = self.G.spec
        values = dict(
            zip(spec.code_names, [*codes.categorical[0].tolist(), *codes.continuous[0].tolist()], strict=True)
        )
        return "\n".join(self._in_words(name, values[name]) for name in names)

    def _in_words(self, name: str, value: CodeValue) -> str:
        values = torch.as_tensor(value).flatten().tolist()
        classes = name in self.G.spec.categorical_names
        words = [self.words.name(name, int(each)) if classes else f"{round(each, 3):g}" for each in values]
        return f"{name} = {', '.join(words[:MOST_WORDS])}{', ...' if len(words) > MOST_WORDS else ''}"


def open_generator(checkpoint: str, settings: Sequence[str] = (), label: str | None = None) -> Opened:
    """The generator with the codes that `--set` and `--class` hold. Warns of a value that training never saw; raises UserError for
    one that a code does not take."""
    G = Generator.from_pretrained(checkpoint)
    held: dict[str, CodeValue] = dict(map(setting, settings))
    names = names_in(G.provenance, checkpoint)
    if label is not None:
        held = held_by(names, label, held, checkpoint)
    G.spec.with_values(G.spec.neutral_codes(0), held, torch.arange(0))  # raises for what it does not take
    warn_beyond_training(G.spec, held)
    words = ClassWords(names.code, names.descriptions()) if names is not None else ClassWords()
    return Opened(G, held, words, origin_in_words(checkpoint, G.provenance.step))


def warn_beyond_training(spec: LatentSpec, values: Mapping[str, CodeValue]) -> None:
    """Log a line for each continuous code with a value that training never saw."""
    for line in spec.beyond_training(values):
        logging.getLogger("infogan_dist").warning(line)


def origin_in_words(checkpoint: str, step: int | None) -> str:
    """The name of the run, of the exported file or of the hub's model, and the step: `quickstart, step 1,875`."""
    path = Path(checkpoint).resolve()
    run = path.parent.parent if path.parent.name == "checkpoints" else path
    name = run.name.removesuffix(".safetensors")
    return f"{name}, step {step:,}" if step is not None else name
