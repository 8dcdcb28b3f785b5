"""The served page: on loopback, for its own page alone, and computing what is too large for a browser."""

from __future__ import annotations

import http.client
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch

from infogan_dist.errors import UserError
from infogan_dist.export.page import build
from infogan_dist.export.page.build import packed, page
from infogan_dist.export.page.model import Model
from infogan_dist.export.page.pack import NotForPage
from infogan_dist.export.page.server import HOST, MOST_IMAGES, Computer, Server
from infogan_dist.latents import LatentSpec
from tests.export.page.conftest import PAPER28, Visit, make_run

Answer = tuple[int, bytes]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model.load(make_run(tmp_path_factory.mktemp("server") / "run", *PAPER28))


@pytest.fixture(scope="module")
def server(model: Model) -> Iterator[Server]:
    running = Server(0, page(model, None), Computer(model))
    Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


def ask(server: Server, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
    connection = http.client.HTTPConnection(HOST, server.server_address[1], timeout=30)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_it_listens_on_loopback_alone(server: Server) -> None:
    assert server.socket.getsockname()[0] == "127.0.0.1"
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", server.address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8000", "LOCALHOST", "[::1]:1234"])
def test_its_own_names_get_the_page(server: Server, host: str) -> None:
    status, content = ask(server, "GET", "/", Host=host)
    assert (status, content) == (200, server.page)
    assert ask(server, "HEAD", "/", Host=host) == (200, b"")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "192.168.0.7", "[::1"]
)
def test_a_foreign_host_is_refused(server: Server, host: str) -> None:
    for method, path in (("GET", "/"), ("POST", "/G")):
        assert ask(server, method, path, Host=host)[0] == 403


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost.evil.example:8000"])
def test_another_sites_script_is_refused(server: Server, origin: str) -> None:
    assert ask(server, "POST", "/G", b"\0" * 4 * 21, Origin=origin)[0] == 403


@pytest.mark.parametrize(
    "path", ["/page.css", "/../pyproject.toml", "/%2e%2e/etc/passwd", "//etc/passwd", "/G", "/index.html/x", "*"]
)
def test_there_is_no_file_but_the_page(server: Server, path: str) -> None:
    status, content = ask(server, "GET", path)
    assert (status, content) == (404, b"there is nothing here but /\n")


def test_python_computes_what_the_networks_do(server: Server, model: Model) -> None:
    z = torch.randn(3, LatentSpec.from_config(model.config.latents).dim)
    status, content = ask(server, "POST", "/G", z.numpy().tobytes())
    images = torch.from_numpy(np.frombuffer(content, "<f4").copy()).view(3, 28, 28, 1).permute(0, 3, 1, 2)
    networks = model.networks
    assert status == 200
    torch.testing.assert_close(images, networks["G_ema"](z))
    status, content = ask(server, "POST", "/Q", images.permute(0, 2, 3, 1).contiguous().numpy().tobytes())
    read = torch.from_numpy(np.frombuffer(content, "<f4").copy()).view(3, -1)
    torch.testing.assert_close(read, networks["Q"](networks["FE"](images)))


def test_rows_of_another_size_and_other_networks_are_refused(server: Server) -> None:
    row = 4 * 21
    for size in (0, row - 1, row + 4, (MOST_IMAGES + 1) * row):
        assert ask(server, "POST", "/G", b"\0" * size)[0] == 400
    assert ask(server, "POST", "/G", None, **{"Content-Length": "-1"})[0] == 400
    assert ask(server, "POST", "/FE", b"\0" * row)[0] == 404
    assert ask(server, "PUT", "/", b"")[0] == 501


def test_a_port_that_is_taken_is_named(server: Server) -> None:
    with pytest.raises(UserError, match=rf"--port {server.server_address[1]} cannot be used .* or 0 for any"):
        Server(server.server_address[1], "", None)
    with socket.create_connection((HOST, server.server_address[1])):
        assert ask(server, "GET", "/")[0] == 200  # one that says nothing holds up nobody


def test_a_page_that_python_computes_draws_the_same(
    server: Server, model: Model, tmp_path: Path, visit: Callable[..., Visit]
) -> None:
    (tmp_path / "page.html").write_text(page(model, packed(model)), encoding="utf-8")
    here, served = visit(tmp_path / "page.html"), visit(server.address)
    for each in (here, served):
        each.draw(2)
        each.js("page.queue.cancel('match'); page.setSeed(3)")
        each.idle()
    assert served.verdict() == here.verdict()
    difference = np.array(served.pixels("picture")) - np.array(here.pixels("picture"))
    assert abs(difference).max() <= 1
    assert served.messages == []
    assert {url.removeprefix(server.address).partition("#")[0] for url in served.requests} == {"", "G", "Q"}


def test_networks_of_more_weights_are_for_python(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "LARGEST", 1000)
    with pytest.raises(NotForPage, match=r"0\.2 million weights, more than"):
        packed(model)
