"""Serves the page on loopback, and computes networks that are too large for it. Nothing else can be asked for."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from urllib.parse import urlsplit

import numpy as np
import torch
from torch import Tensor

from infogan_dist.errors import UserError
from infogan_dist.export.page.model import Model

HOST = "127.0.0.1"
LOOPBACK = {"127.0.0.1", "localhost", "::1"}  # also at the near end of a forwarded port
MOST_IMAGES = 16  # of one request


class Computer:
    """G and Q for a page that asks: rows of float32 in, rows of float32 out, images as [H, W, C]."""

    def __init__(self, model: Model):
        self._networks = model.networks
        data = model.config.data
        self._image = (data.image_size, data.image_size, data.channels)
        self._lock = Lock()  # one request at a time has the cores
        self.widths = {"G": model.spec.dim, "Q": int(np.prod(self._image))}

    @property
    def milliseconds(self) -> float:
        """What an image of G takes here, the second time."""
        rows = torch.zeros(1, self.widths["G"])
        self.run("G", rows)
        started = time.perf_counter()
        self.run("G", rows)
        return 1000 * (time.perf_counter() - started)

    @torch.no_grad()
    def run(self, network: str, rows: Tensor) -> Tensor:
        """G's images [B, H * W * C] of its inputs, or Q's output [B, posterior_dim] on images."""
        with self._lock:
            if network == "G":
                return self._on("G_ema", rows).permute(0, 2, 3, 1).flatten(1).float()
            return self._on("Q", self._on("FE", rows.unflatten(1, self._image).permute(0, 3, 1, 2))).float()

    def _on(self, name: str, x: Tensor) -> Tensor:
        network = self._networks[name]
        y: Tensor = network(x.to(next(network.parameters())))
        return y


class Server(ThreadingHTTPServer):
    """The page at /, and with a `computer` POST /G and /Q. Raises UserError where the port is taken."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int, page: str, computer: Computer | None):
        self.page, self.computer = page.encode(), computer
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            raise UserError(
                f"--port {port} cannot be used ({error}); give another, or 0 for any that is free"
            ) from None

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that left before its answer is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_address[1]}/"

    def run(self) -> None:
        """Serve until Ctrl-C or SIGTERM, which is how it ends well."""
        with self, suppress(KeyboardInterrupt):
            self.serve_forever()


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = 60  # seconds for a request that stands still

    def do_GET(self) -> None:
        if self._is_allowed() and self._is_page():
            self._answer(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        network, computer = self.path.removeprefix("/"), self.server.computer
        if not self._is_allowed():
            return
        if computer is None or network not in computer.widths:
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here")
            return
        row = 4 * computer.widths[network]
        size = self.headers.get("Content-Length", "")
        if not size.isdecimal() or not 0 < int(size) <= MOST_IMAGES * row or int(size) % row:
            self._refuse(HTTPStatus.BAD_REQUEST, f"{network} takes 1 to {MOST_IMAGES} rows of {row} bytes")
            return
        content = np.frombuffer(self.rfile.read(int(size)), "<f4").reshape(-1, computer.widths[network])
        answer = computer.run(network, torch.from_numpy(content.copy()))
        self._answer(HTTPStatus.OK, answer.numpy().astype("<f4").tobytes(), "application/octet-stream")

    def _is_allowed(self) -> bool:
        """Whether the request is the page's own: not from another site by a name that leads here, or by its scripts."""
        origin = self.headers.get("Origin")
        asked = [f"//{self.headers.get('Host', '')}", *([origin] if origin is not None else [])]
        if all(_host(address) in LOOPBACK for address in asked):
            return True
        self._refuse(HTTPStatus.FORBIDDEN, f"this page is served to {', '.join(sorted(LOOPBACK))} only")
        return False

    def _is_page(self) -> bool:
        if self.path.partition("?")[0] in ("/", "/index.html"):
            return True
        self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here but /")
        return False

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        self._answer(status, f"{message}\n".encode(), "text/plain; charset=utf-8")

    def _answer(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def version_string(self) -> str:
        return "infogan-dist"

    def log_message(self, format: str, *args: object) -> None:
        """No line for each request."""


def _host(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None
