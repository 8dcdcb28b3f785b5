"""A hub on this machine: repos in memory, each a mapping of file names to bytes, behind the addresses that huggingface_hub asks."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

COMMIT = "0" * 40


class FakeHub:
    """`repos` and `private` by repo id; `asked` is every request, `METHOD path`."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.asked: list[str] = []
        self.url = ""

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        found = re.fullmatch(r"/(?:api/models/)?([\w.-]+/[\w.-]+?)(?:/(resolve|preupload|commit)/main/?(.*))?", path)
        if path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            status = 409 if repo in self.repos else 200
            self.repos.setdefault(repo, {})
            self.private.setdefault(repo, asked.get("private") is True or asked.get("visibility") == "private")
            return status, json.dumps({"url": f"{self.url}/{repo}"}).encode(), {}
        if path == "/api/validate-yaml":
            return 200, b'{"errors": [], "warnings": []}', {}
        if found is None or found[1] not in self.repos:
            return 404, b"{}", {"X-Error-Code": "RepoNotFound"}
        repo, action, name = found.groups()
        files = self.repos[repo]
        if action is None:
            siblings = [{"rfilename": file} for file in files]
            return (
                200,
                json.dumps({"id": repo, "private": self.private[repo], "sha": COMMIT, "siblings": siblings}).encode(),
                {},
            )
        if action == "preupload":
            modes = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return 200, json.dumps({"files": modes}).encode(), {}
        if action == "commit":
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            said = {"commitUrl": f"{self.url}/{repo}/commit/{COMMIT}", "commitOid": COMMIT, "success": True}
            return 200, json.dumps(said).encode(), {}
        if name not in files:
            return 404, b"{}", {"X-Error-Code": "EntryNotFound"}
        etag = hashlib.sha1(files[name]).hexdigest()
        return 200, files[name], {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """A hub that answers at its `url` within."""
    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.partition("?")[0]
            hub.asked.append(f"{self.command} {path}")
            status, content, headers = hub.answer(self.command, path, body)
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_HEAD = do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
