"""Puts the page together: one HTML file with everything inside, which asks nobody for anything."""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from infogan_dist.export.html import base_style, policy_hash
from infogan_dist.export.page.model import Model
from infogan_dist.export.page.pack import NotForPage, description, encoded, layers_of, multiply_adds
from infogan_dist.export.page.words import words

SCRIPTS = (
    *("random", "latents", "compute"),
    *("ink", "photo", "board", "files", "link", "pictures"),
    *("panels", "show", "page", "start"),
)
WORKER = ("kernel", "worker")
LARGEST = 20_000_000  # weights that a page holds: 53 MB, and some 20 ms an image of 28 pixels
MULTIPLY_ADDS_PER_MS = 1_100_000  # of the kernel, in Chromium 150 on one core of a server
MATCH_MS = 1000  # in which the page looks for the z nearest to a drawing, among
FEWEST_TRIES, MOST_TRIES = 8, 100  # seeds


@dataclass(frozen=True)
class Packed:
    """The networks as the page's kernel takes them, by name: G, and Q on top of FE."""

    layers: dict[str, list[dict[str, Any]]]
    weights: dict[str, str]
    """In base64."""
    milliseconds: float
    """About what an image of G takes in a browser."""


def packed(model: Model) -> Packed:
    """Raises NotForPage."""
    if model.parameters > LARGEST:
        raise NotForPage(
            f"G, FE and Q have {model.parameters / 1e6:.1f} million weights, more than the {LARGEST / 1e6:.0f} of a page"
        )
    G = layers_of(model.networks["G_ema"], "G")
    Q = layers_of(model.networks["FE"], "FE") + layers_of(model.networks["Q"], "Q")
    work = multiply_adds(G, model.spec.dim)
    return Packed(
        layers={"G": description(G), "Q": description(Q)},
        weights={"G": encoded(G), "Q": encoded(Q)},
        milliseconds=work / MULTIPLY_ADDS_PER_MS,
    )


def page(model: Model, networks: Packed | None) -> str:
    """The HTML. Without `networks` it asks the server that sends it to compute (`server.py`)."""
    style = _tag("style", base_style() + asset("style.css"))
    scripts = [
        _data("content", "application/json", json.dumps(_content(model, networks)).replace("<", "\\u003c")),
        _tag("script", "\n".join(asset(f"{name}.js") for name in SCRIPTS)),
    ]
    if networks is None:
        scripts.append(_tag("script", "startInPython();"))
    else:
        scripts.append(_data("worker", "text/plain", "\n".join(asset(f"{name}.js") for name in WORKER)))
        scripts.append(_tag("script", "startInPage();"))
        for name, weights in networks.weights.items():  # G first: the page draws before the browser has read the rest
            scripts += [_data(f"weights-{name}", "text/plain", weights), _tag("script", f'load("{name}");')]
    filled = {key: html.escape(text) for key, text in words(model).items()}
    filled |= {"style": style, "scripts": "\n".join(scripts), "policy": _policy([style, *scripts], networks is None)}
    return re.sub(r"\{\{(\w+)\}\}", lambda place: filled[place[1]], asset("page.html"))


def asset(name: str) -> str:
    return files("infogan_dist.export.page").joinpath("assets", name).read_text(encoding="utf-8")


def _content(model: Model, networks: Packed | None) -> dict[str, Any]:
    """What the scripts know of the model."""
    data, record, spec = model.config.data, model.record, model.spec
    tries = MATCH_MS / networks.milliseconds if networks is not None else FEWEST_TRIES
    content: dict[str, Any] = {
        "checkpoint": model.path.resolve().name,
        "latents": {
            "noise": [source.model_dump(mode="json") for source in spec.noise],
            "categorical": spec.categorical,
            "continuous": spec.continuous,
            "balanced": spec.balanced,
        },
        "image": {"size": data.image_size, "channels": data.channels},
        "noun": record.noun,
        "draws": record.drawn_by_hand,
        "inkBox": record.ink_box,
        "tries": max(FEWEST_TRIES, min(MOST_TRIES, int(tries))),
        "code": model.code,
        "names": model.class_names(),
    }
    if networks is not None:
        content["layers"] = networks.layers
    return content


def _tag(name: str, text: str) -> str:
    return f"<{name}>\n{text}</{name}>"


def _data(name: str, kind: str, text: str) -> str:
    """A block that the browser does not run."""
    return f'<script type="{kind}" id="{name}">{text}</script>'


def _policy(blocks: list[str], asks_server: bool) -> str:
    """A Content-Security-Policy under which the page runs what is in it and nothing else, and sends nothing anywhere else."""

    def hashes(tag: str) -> str:
        texts = [
            block.removeprefix(f"<{tag}>").removesuffix(f"</{tag}>") for block in blocks if block.startswith(f"<{tag}>")
        ]
        return " ".join(map(policy_hash, texts))

    rules = ["default-src 'none'", f"script-src {hashes('script')}", f"style-src {hashes('style')}", "img-src data:"]
    rules += ["connect-src 'self'"] if asks_server else ["worker-src blob:"]
    return "; ".join([*rules, "base-uri 'none'", "form-action 'none'"])
