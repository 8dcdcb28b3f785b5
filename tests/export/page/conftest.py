"""Runs whose random networks draw images with contrast, and the page in Chromium, which is skipped where it is missing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from infogan_dist.checkpoints import store
from infogan_dist.checkpoints.state import network_tensors
from infogan_dist.networks import build_networks
from infogan_dist.networks.batch_norm import BatchNorm
from tests.conftest import tiny

PAPER28 = ("latents={noise: [{dim: 9}], categorical: [10], continuous: 2, balanced: true}", "networks.width=8")
STROKES = json.loads((Path(__file__).parent / "ten_strokes.json").read_text())


def strokes_of(digit: int) -> list[list[list[float]]]:
    """Points in 0..1 of the board."""
    return [[[x / STROKES["board"], y / STROKES["board"]] for x, y in s] for s in STROKES["digits"][str(digit)]]


def make_run(folder: Path, *overrides: str) -> Path:
    """A run folder with one checkpoint, its weights and statistics so large that images reach from black to white."""
    config = tiny(folder, *overrides)
    networks = build_networks(config).named()
    generator = torch.Generator().manual_seed(1)
    for name in ("G_ema", "FE", "Q"):
        roughen(networks[name], generator)
    facts = {"step": 6, "images_seen": 72, "config": config.model_dump(mode="json")}
    store.save(folder / "checkpoints", network_tensors(networks), facts)
    return folder


@torch.no_grad()
def roughen(network: nn.Module, generator: torch.Generator) -> None:
    def normal(tensor: Tensor, centre: float, deviation: float) -> None:
        tensor.copy_(torch.randn(tensor.shape, generator=generator) * deviation + centre)

    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if isinstance(module, BatchNorm) or name == "bias":
                normal(parameter, 1 if name == "weight" else 0, 0.3)
            else:
                inputs = parameter[0].numel() if parameter.dim() > 1 else len(parameter)
                normal(parameter, 0, 1.4 / inputs**0.5)
        if isinstance(module, BatchNorm):
            normal(module.running_mean, 0, 0.3)
            module.running_var.copy_(torch.rand(len(module.running_var), generator=generator) + 0.5)


@dataclass
class Visit:
    """The page in a tab, with everything it asked for and said."""

    tab: Any
    requests: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def js(self, code: str, argument: object = None) -> Any:
        return self.tab.evaluate(code, argument)

    def idle(self) -> None:
        """Wait until nothing is left to be computed, or to be put into the link."""
        link = "page.hash === hashOf({...page, strokes: page.board.strokes})"
        self.wait(f"!page.queue.busy && !page.queue.requests.size && {link}")

    def wait(self, condition: str) -> None:
        for _ in range(600):
            if self.js(condition):
                return
            self.tab.wait_for_timeout(50)
        raise AssertionError(f"never: {condition}")

    def draw(self, digit: int) -> None:
        """Have the strokes of the fixture on the board, and Q's reading of them."""
        on_board = "page.board.replace(strokes.map((stroke) => stroke.map((point) => point.map(onGrid))))"
        self.js(f"(strokes) => {{ {on_board}; page.drew(true); }}", strokes_of(digit))
        self.wait("!page.queue.requests.has('read')")

    def draw_by_mouse(self, digit: int) -> None:
        """Draw them with the mouse, every third point of each stroke."""
        self.tab.locator("#board").scroll_into_view_if_needed()
        box, mouse = self.tab.locator("#board").bounding_box(), self.tab.mouse
        for stroke in strokes_of(digit):
            points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke[::3] + stroke[-1:]]
            mouse.move(*points[0])
            mouse.down()
            for point in points[1:]:
                mouse.move(*point)
            mouse.up()
        self.idle()

    def open(self, *files: Path) -> None:
        self.tab.locator("#file").set_input_files([str(path) for path in files])
        self.tab.wait_for_timeout(100)
        self.idle()

    def verdict(self) -> str:
        return str(self.tab.locator("#verdict strong").inner_text())

    def problem(self) -> str:
        return str(self.tab.locator("#problem").inner_text())

    def shown(self, canvas: str) -> str:
        """What is on a canvas, to be compared."""
        return str(self.js("(id) => element(id).toDataURL()", canvas))

    def pixels(self, canvas: str) -> list[int]:
        code = """(id) => { const c = element(id);
            return Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data); }"""
        return list(self.js(code, canvas))


@pytest.fixture
def visit(chromium: Any) -> Iterator[Callable[..., Visit]]:
    """Open an HTML file, or an address, in a fresh profile."""
    contexts = []

    def open_page(address: Path | str, **context: Any) -> Visit:
        contexts.append(chromium.new_context(**{"viewport": {"width": 1200, "height": 900}, **context}))
        visit = Visit(contexts[-1].new_page())
        visit.tab.on("request", lambda request: visit.requests.append(request.url))
        visit.tab.on("console", lambda message: visit.messages.append(message.text))
        visit.tab.on("pageerror", lambda error: visit.messages.append(str(error)))
        visit.tab.goto(address.as_uri() if isinstance(address, Path) else address)
        visit.idle()
        return visit

    yield open_page
    for each in contexts:
        each.close()


@pytest.fixture(scope="session")
def quickstart() -> Path:
    """A trained run of configs/quickstart.yaml; skips where INFOGAN_QUICKSTART does not say where one is."""
    path = os.environ.get("INFOGAN_QUICKSTART")
    if path is None:
        pytest.skip("INFOGAN_QUICKSTART does not say where a trained run of quickstart is")
    return Path(path)
